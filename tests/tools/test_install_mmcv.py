# SPDX-License-Identifier: Apache-2.0
"""tools/install_mmcv.py: files are merged where that is known to work, wheels kept."""

import hashlib
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'install_mmcv.py'
# As mmcv's: files that define the same helpers, and one with macros.
ALIKE = (
    'template <typename T> struct PreCalc {{ T {0}; }};\nint {0}() {{ return 0; }}\n'
)
FILES = {
    'pybind.cpp': 'int bind() { return 1; }\n',
    'nms.cpp': 'int nms(int a, int b) { return a < b; }\n',
    'cpu/psamask.cpp': '#define min(a, b) a\nint psamask() { return min(1, 2); }\n',
    'cpu/zeta.cpp': 'struct Last { int min(int a) { return a; } };\n',
    **{
        f'cpu/{name}.cpp': ALIKE.format(name)
        for name in ('roi_align', 'roi_align_rotated', 'bezier_align')
    },
}


@pytest.fixture
def install_mmcv():
    spec = importlib.util.spec_from_file_location('install_mmcv', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(install_mmcv, tmp_path) -> Path:
    """What mmcv's archive holds, with little in it."""
    folder = tmp_path / 'mmcv-1'
    for name, text in FILES.items():
        file = folder / install_mmcv.SOURCES / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def cpp_files(install_mmcv, folder: Path) -> set[str]:
    files = (folder / install_mmcv.SOURCES).rglob('*.cpp')
    return {file.name for file in files}


def test_merge_leaves_two_files_that_compile_to_all_functions(install_mmcv, source):
    install_mmcv.merge(source)
    assert cpp_files(install_mmcv, source) == {'merged.cpp', 'pybind.cpp'}
    merged = source / install_mmcv.SOURCES / 'merged.cpp'
    compiler = shutil.which('c++') or pytest.skip('there is no C++ compiler')
    subprocess.run([compiler, '-c', merged, '-o', source / 'm.o'], check=True)
    symbols = (source / 'm.o').read_bytes()
    for name in ('nms', 'psamask', 'roi_align', 'roi_align_rotated', 'bezier_align'):
        assert f'_Z{len(name)}{name}'.encode() in symbols


class Pip:
    """Stands for all processes: finds an archive or a wheel, builds and installs.

    Attributes:
        calls: What was run, in a word each.
        compiled: The C++ files of each build.
        fails_merged: Whether merged files do not compile.
    """

    def __init__(self, module, found: Path) -> None:
        self.module, self.found = module, found
        self.calls: list[str] = []
        self.compiled: list[set[str]] = []
        self.fails_merged = False

    def run(self, command, check, cwd=None):
        assert check
        if command[2] == 'pip':
            self.calls.append(command[3])
            if command[3] == 'download':
                wanted = '.whl' if '--only-binary=mmcv' in command else '.gz'
                if self.found.suffix != wanted:
                    raise subprocess.CalledProcessError(1, command)
                shutil.copy(self.found, command[command.index('-d') + 1])
            else:
                self.installed = Path(command[-1])
                self.text = self.installed.read_text()
                if not self.text:
                    raise subprocess.CalledProcessError(1, command)
            return
        self.calls.append('build')
        files = cpp_files(self.module, cwd)
        self.compiled.append(files)
        if self.fails_merged and 'merged.cpp' in files:
            raise subprocess.CalledProcessError(1, command)
        folder = Path(command[-1])
        folder.mkdir()
        (folder / 'mmcv-1-cp3-linux.whl').write_text(f'{len(self.compiled)}')


@pytest.fixture
def lock(tmp_path) -> Path:
    file = tmp_path / 'lock.txt'
    file.write_text('numpy==2\n    # via\nmmcv==1\n')
    return file


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def pip(install_mmcv, source, cache, tmp_path, monkeypatch) -> Pip:
    """Finds the archive, which is known."""
    archive = shutil.make_archive(tmp_path / 'mmcv-1', 'gztar', tmp_path, 'mmcv-1')
    digest = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    monkeypatch.setattr(install_mmcv, 'KNOWN', {digest})
    pip = Pip(install_mmcv, Path(archive))
    monkeypatch.setattr(install_mmcv.subprocess, 'run', pip.run)
    return pip


def names(files: dict) -> set[str]:
    return {Path(name).name for name in files}


def test_install_keeps_the_wheel_for_the_next_time(install_mmcv, pip, lock, cache):
    for _ in range(2):
        install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    first, second = (
        ['download', 'download', 'build', 'install'],
        ['download', 'install'],
    )
    assert pip.calls == first + second
    assert pip.compiled == [{'merged.cpp', 'pybind.cpp'}]
    assert pip.installed.is_relative_to(cache)
    # Another version is another wheel.
    lock.write_text('mmcv==2\n')
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert len(pip.compiled) == 2


def test_install_anew_uses_no_wheel_and_merges_nothing(install_mmcv, pip, lock):
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    install_mmcv.install('mmcv', lock, 'cpu', anew=True)
    assert pip.compiled[1] == names(FILES)
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert len(pip.compiled) == 2 and pip.installed.read_text() == '2'


def test_install_compiles_an_unknown_archive_as_it_is(
    install_mmcv, pip, lock, monkeypatch
):
    monkeypatch.setattr(install_mmcv, 'KNOWN', set())
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert pip.compiled == [names(FILES)]


def test_install_compiles_for_a_gpu_as_it_is(install_mmcv, pip, lock):
    install_mmcv.install('mmcv', lock, 'cuda', anew=False)
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert pip.compiled == [names(FILES), {'merged.cpp', 'pybind.cpp'}]


def test_install_compiles_one_by_one_what_does_not_merge(install_mmcv, pip, lock):
    pip.fails_merged = True
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert pip.compiled == [{'merged.cpp', 'pybind.cpp'}, names(FILES)]
    assert pip.calls == ['download', 'download', 'build', 'build', 'install']


def test_install_takes_a_wheel_that_pip_finds(install_mmcv, pip, lock, tmp_path):
    """Also where one was compiled before, for the CPU."""
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    pip.calls.clear()
    pip.found = tmp_path / 'mmcv-1-cp3-linux.whl'
    pip.found.write_text('ready')
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert pip.calls == ['download', 'install']
    assert pip.text == 'ready'


def test_install_works_where_nothing_can_be_kept(
    install_mmcv, pip, lock, cache, capsys
):
    cache.write_text('a file in the place of the folder')
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert pip.calls[-1] == 'install'
    assert 'not kept' in capsys.readouterr().out


def test_install_compiles_where_what_was_kept_is_damaged(
    install_mmcv, pip, lock, cache
):
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    (kept,) = cache.rglob('*.whl')
    kept.write_text('')
    install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert len(pip.compiled) == 2 and kept.read_text() == '2'


def test_install_compiles_for_other_flags(install_mmcv, pip, lock, monkeypatch):
    for flags in ('-O3', '-O3 -march=native'):
        monkeypatch.setenv('CXXFLAGS', flags)
        install_mmcv.install('mmcv', lock, 'cpu', anew=False)
    assert len(pip.compiled) == 2
