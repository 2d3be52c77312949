# SPDX-License-Identifier: Apache-2.0
"""Install mmcv with its operations, compiled in a fraction of the usual time.

Each of mmcv's 78 C++ files reads torch's headers, which takes longer than all the rest
of it. For the CPU, those of a version that is known are compiled as one file and the
largest beside it: the library has the same operations. Another version, or one that
does not compile so, is compiled file by file. The wheel is kept for the next clone with
the same torch and Python.

tools/setup_env.py runs this with the environment's Python, which has torch by then.
"""

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# What was tried: the archives on PyPI, by their SHA-256.
KNOWN = {
    # onedl_mmcv-2.3.6.tar.gz
    '8704978a3d492b15cc058742ac3165bd1bcc2dd20678da9ed39e0da3048e3045',
    # mmcv-2.1.0.tar.gz
    'd387bcab66b467479b6660310e23746cfc79c6e57acf04094680adb499a5cd3f',
}
# What decides, besides, how they are compiled.
FLAGS = ['CXX', 'CFLAGS', 'CXXFLAGS', 'CUDA_HOME', 'TORCH_CUDA_ARCH_LIST']
SOURCES = Path('mmcv', 'ops', 'csrc', 'pytorch')
# It takes as long as all the others together.
LARGEST = 'pybind.cpp'
# These define the same helpers, each for itself.
ALIKE = ['cpu/bezier_align.cpp', 'cpu/roi_align.cpp', 'cpu/roi_align_rotated.cpp']
HELPERS = ['PreCalc', 'bilinear_interpolate_gradient', 'add']
# It defines macros named min and max.
LAST = 'cpu/psamask.cpp'


def merge(folder: Path) -> None:
    """Include all C++ files that the CPU build compiles in one, but for the largest.

    Args:
        folder: What mmcv's archive holds; changed in place.
    """
    sources = folder / SOURCES
    lines = []
    files = [*sources.glob('*.cpp'), *sources.glob('cpu/*.cpp')]
    names = {file.relative_to(sources).as_posix() for file in files} - {LARGEST}
    for name in sorted(names, key=lambda name: (name == LAST, name)):
        # setup.py compiles whatever ends in .cpp.
        (sources / name).rename(sources / f'{name}.inc')
        helpers = HELPERS if name in ALIKE else []
        lines += [f'#define {helper} {helper}_{Path(name).stem}' for helper in helpers]
        lines.append(f'#include "{name}.inc"')
        lines += [f'#undef {helper}' for helper in helpers]
    (sources / 'merged.cpp').write_text('\n'.join(lines) + '\n')


def pip(command: str, *arguments: str) -> None:
    """Run the environment's pip, or raise CalledProcessError."""
    flags = ['--no-deps', '--no-build-isolation']
    subprocess.run(
        [sys.executable, '-m', 'pip', command, *flags, *arguments], check=True
    )


# What pip calls too, after it has run setup.py for the metadata.
BUILD_WHEEL = """
import sys
from setuptools.build_meta import __legacy__
__legacy__.build_wheel(sys.argv[1])
"""


def build(archive: Path, merged: bool, work: Path) -> Path:
    """Compile an archive of mmcv's source.

    Args:
        archive: As PyPI has it.
        merged: Whether to merge its files, if the archive is known.
        work: An empty folder.

    Returns:
        The wheel, in that folder.

    Raises:
        CalledProcessError: It does not compile.
    """
    shutil.unpack_archive(archive, work / 'source')
    (source,) = (work / 'source').iterdir()
    if merged and hashlib.sha256(archive.read_bytes()).hexdigest() in KNOWN:
        merge(source)
    elif merged:
        print(f'{archive.name} is not known: its files are compiled one by one')
    command = [sys.executable, '-c', BUILD_WHEEL, str(work / 'wheel')]
    subprocess.run(command, cwd=source, check=True)
    (wheel,) = (work / 'wheel').glob('*.whl')
    return wheel


def find_wheel(name: str, constraints: str, work: Path) -> Path | None:
    """Have pip look for a wheel, as where ``PIP_FIND_LINKS`` says.

    Args:
        name: The distribution that has mmcv.
        constraints: The file that pins its version.
        work: An empty folder.

    Returns:
        The wheel, in that folder, or None.
    """
    flags = [f'--only-binary={name}', '-c', constraints, '-d', str(work)]
    with contextlib.suppress(subprocess.CalledProcessError):
        pip('download', *flags, name)
    return next(work.glob('*.whl'), None)


def compile_wheel(
    name: str, constraints: str, work: Path, ops: str, anew: bool
) -> Path:
    """Have pip fetch mmcv's source, and compile it.

    Args:
        name: The distribution that has mmcv.
        constraints: The file that pins its version.
        work: An empty folder.
        ops: 'cpu' or 'cuda', what its operations are compiled for.
        anew: Whether to compile its files one by one.

    Returns:
        The wheel, below that folder.
    """
    pip('download', f'--no-binary={name}', '-c', constraints, '-d', str(work), name)
    (archive,) = work.glob('*.tar.gz')
    # CUDA's files are few and long: there is little to gain.
    merged = ops == 'cpu' and not anew
    try:
        return build(archive, merged, work / 'first')
    except subprocess.CalledProcessError:
        if not merged:
            raise
    print('The merged files do not compile here: compiling them one by one')
    return build(archive, False, work / 'second')


def cache_folder(pin: str, ops: str) -> Path:
    """The folder of wheels that were compiled for this torch and Python."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    python = 'python{}.{}'.format(*sys.version_info)
    built_for = f'torch{version("torch")}-{ops}-{python}-{platform.machine()}'
    flags = [os.environ.get(name) for name in FLAGS]
    digest = hashlib.sha256(repr(flags).encode()).hexdigest()[:8]
    return Path(cache, 'ape_mmdet', 'wheels', f'{built_for}-{digest}', pin)


def pinned(name: str, constraints: str) -> str:
    """The line that pins a distribution, as ``mmcv==2.1.0``."""
    lines = Path(constraints).read_text().split()
    return next(line for line in lines if line.startswith(f'{name}=='))


def install(name: str, constraints: str, ops: str, anew: bool) -> None:
    """Install mmcv's wheel, from the cache or compiled now.

    Raises:
        CalledProcessError: pip failed; it has said why.
    """
    with tempfile.TemporaryDirectory() as temporary:
        found, compiled = Path(temporary, 'found'), Path(temporary, 'compiled')
        found.mkdir()
        compiled.mkdir()
        wheel = None if anew else find_wheel(name, constraints, found)
        if wheel:
            pip('install', '--force-reinstall', str(wheel))
            return
        pin = pinned(name, constraints)
        if not anew and install_kept(pin, ops):
            return
        wheel = compile_wheel(name, constraints, compiled, ops, anew)
        pip('install', '--force-reinstall', str(wheel))
        keep(wheel, pin, ops)


def install_kept(pin: str, ops: str) -> bool:
    """Install the wheel that was kept; say whether there is one that can be."""
    try:
        for kept in cache_folder(pin, ops).glob('*.whl'):
            pip('install', '--force-reinstall', str(kept))
            return True
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f'The wheel that was kept is of no use: {error}')
    return False


def keep(wheel: Path, pin: str, ops: str) -> None:
    """Keep a wheel for the next clone, where that is possible."""
    try:
        cache = cache_folder(pin, ops)
        cache.mkdir(parents=True, exist_ok=True)
        # There under its name only when it is whole.
        partial = cache / f'{os.getpid()}.partial'
        shutil.copyfile(wheel, partial)
        partial.replace(cache / wheel.name)
    except (OSError, RuntimeError) as error:
        print(f'The wheel is not kept for the next clone: {error}')


if __name__ == '__main__':
    # As an exception, so that what is half done goes with its folder.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name', help='onedl-mmcv or mmcv')
    parser.add_argument('constraints', help='the file that pins its version')
    parser.add_argument('--ops', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--anew', action='store_true', help='compile it, whatever is kept'
    )
    args = parser.parse_args()
    install(args.name, args.constraints, args.ops, args.anew)
