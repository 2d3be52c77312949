# SPDX-License-Identifier: Apache-2.0
"""tools/setup_env.py, without a network: pip and .venv's Python are faked.

Each test has a checkout of its own, in a folder with a space in its name.
"""

import ast
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import namedtuple
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
OTHER_PYTHON = '3.10' if sys.version_info[:2] != (3, 10) else '3.12'
NO_GPU = [None, False]
# Torch, the rest, this package and mmcv.
NUM_INSTALLS = 4
NO_EXT = [3, "No module named 'mmcv._ext'"]

# Stands in for .venv/bin/python: it notes its arguments and what it finds in
# the environment, and answers from a file; each list of answers is used up
# to its last one.
FAKE_PYTHON = """
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
names = ('FORCE_CUDA', 'CUDA_VISIBLE_DEVICES')
with open(here + '/calls', 'a') as file:
    seen = {name: os.environ.get(name) for name in names}
    file.write(json.dumps([sys.argv[1:], seen, os.getpid()]) + '\\n')
with open(here + '/answers') as file:
    answers = json.load(file)
if sys.argv[1:3] == ['-m', 'pip'] or sys.argv[1].endswith('install_mmcv.py'):
    print('[5/9] c++')
    print('pip says', *sys.argv[1:], flush=True)
    while answers['pip_waits'] and not os.path.exists(here + '/go'):
        time.sleep(0.02)
    sys.exit(answers['pip_fails_on'] in sys.argv)
elif 'mmcv._ext' in sys.argv[2]:
    status, said = answers['ops'][0]
    with open(here + '/answers', 'w') as file:
        json.dump(dict(answers, ops=answers['ops'][1:] or [[status, said]]), file)
    print(said, file=sys.stderr if status else sys.stdout)
    sys.exit(status)
elif 'requires' in sys.argv[2]:
    print('CUDA' if answers['torch'][0] else 'nothing')
elif 'torch.version.cuda' in sys.argv[2]:
    print(json.dumps(answers['torch']))
elif 'sys, pip' in sys.argv[2]:
    print(answers['version'])
"""


class Checkout:
    """A copy of what set-up reads, whose environment has the fake Python."""

    def __init__(self, root, lock='lock.txt', venv='.venv'):
        self.root = root
        self.script = root / 'tools' / 'setup_env.py'
        self.lock = root / 'requirements' / lock
        self.venv = root / venv
        self.stamp = self.venv / 'setup.json'
        self.env_file = self.venv / 'env.sh'
        self.path = root / 'path'
        for folder in (self.script.parent, self.lock.parent, self.path):
            folder.mkdir(parents=True)
        for name in ('setup_env.py', 'install_mmcv.py'):
            shutil.copy(REPO / 'tools' / name, self.script.parent)
        shutil.copy(REPO / 'Makefile', root)
        self.lock.write_text('onedl-mmcv==1\n    # via x\nscipy==1\ntorch==1\n')
        self.command('c++')

    def command(self, name, code='exit 0'):
        """Write a command, by default on the PATH that set-up is run with."""
        file = self.path / name
        file.write_text(f'#!/bin/sh\n{code}\n')
        file.chmod(0o755)

    def fake_venv(self, ops=((0, 'cpu'),), **answers):
        self.venv.joinpath('bin').mkdir(parents=True, exist_ok=True)
        # Through sh: a script's first line can't name a path with a space.
        fake = f'"{sys.executable}" "${{0%/*}}/fake.py" "$@"'
        self.command(self.venv / 'bin' / 'python', f'exec {fake}')
        (self.venv / 'bin' / 'fake.py').write_text(FAKE_PYTHON)
        defaults = {
            'ops': ops,
            'torch': NO_GPU,
            'version': '.'.join(platform.python_version_tuple()[:2]),
            'pip_fails_on': None,
            'pip_waits': False,
        }
        answers = json.dumps({**defaults, **answers})
        (self.venv / 'bin' / 'answers').write_text(answers)

    def environment(self, **extra):
        # `make` and the shell's own commands stay within reach of the Makefile
        # only, where a test asks for them.
        env = {'PATH': str(self.path), 'HOME': str(self.root)}
        return {**env, **extra}

    def run(self, *args, **extra):
        return subprocess.run(
            [sys.executable, self.script, *args],
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def make(self, *args, **extra):
        path = f'{self.path}{os.pathsep}{os.defpath}'
        return subprocess.run(
            [shutil.which('make'), *args],
            cwd=self.root,
            env=self.environment(PATH=path, **extra),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def calls(self):
        """Return what the fake Python was asked since the last time."""
        file = self.venv / 'bin' / 'calls'
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def installs(self):
        """Return what was installed since the last time, and how.

        Each with the arguments of pip, or of install_mmcv.py: that first, then this
        package, then what is pinned.
        """
        calls = self.calls()
        mmcv = [args[1:] for args, *_ in calls if 'install_mmcv.py' in args[0]]
        pip = [args[3:] for args, *_ in calls if args[:3] == ['-m', 'pip', 'install']]
        return mmcv + sorted(pip, key=lambda args: '-r' in args)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / 'a check out')


@pytest.fixture
def openmmlab(tmp_path):
    """A checkout of which OpenMMLab's environment is looked at."""
    return Checkout(tmp_path / 'a check out', 'openmmlab.txt', '.venv-openmmlab')


@pytest.fixture
def setup_env(checkout, monkeypatch):
    """The checkout's script, as a module, in the checkout's environment."""
    spec = importlib.util.spec_from_file_location('setup_env', checkout.script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv('PATH', str(checkout.path))
    monkeypatch.delenv('PIP_EXTRA_INDEX_URL', raising=False)
    for name in ('CXX', 'CUDA_HOME', 'CUDA_PATH', 'MAX_JOBS', 'CFLAGS', 'CXXFLAGS'):
        monkeypatch.delenv(name, raising=False)
    return module


# The machine.


def test_parses_on_an_old_python():
    ast.parse((REPO / 'tools' / 'setup_env.py').read_text(), feature_version=(3, 6))


@pytest.mark.parametrize('version', ['3.10', '3.11', '3.12'])
def test_fitting_python(setup_env, version):
    assert setup_env.python_problem(version) is None


@pytest.mark.parametrize('version', ['2.7', '3.1', '3.9', '3.13'])
def test_other_pythons_do_not_fit(setup_env, version):
    problem = setup_env.python_problem(version)
    assert version in problem and 'make PYTHON=/path/to/python3.12' in problem


def test_names_a_fitting_python_that_runs(checkout, setup_env):
    checkout.command('python3.11', 'exit 1')
    checkout.command('python3.12', 'echo Python 3.12.1')
    assert 'make PYTHON=python3.12 demo' in setup_env.python_problem('3.9')


def test_no_compiler_stops_before_anything_is_made(checkout):
    checkout.path.joinpath('c++').unlink()
    done = checkout.run()
    assert done.returncode == 1
    assert 'apt install g++' in done.stderr
    assert not checkout.venv.exists()


def test_cxx_that_is_missing_is_named(checkout):
    done = checkout.run(CXX='no-such-compiler -x')
    assert done.returncode == 1
    assert 'CXX=no-such-compiler -x is not on PATH' in done.stderr


def test_any_known_compiler_or_cxx_does(checkout, setup_env, monkeypatch):
    assert setup_env.find_compiler() == 'c++'
    checkout.path.joinpath('c++').unlink()
    checkout.command('clang++')
    assert setup_env.find_compiler() == 'clang++'
    checkout.command('ccache')
    monkeypatch.setenv('CXX', 'ccache g++')
    assert setup_env.find_compiler() == 'ccache g++'
    assert setup_env.build_environment('cpu')['CXX'] == 'ccache g++'


def test_missing_headers_and_venv_are_both_told(setup_env, monkeypatch):
    monkeypatch.setattr(
        setup_env.sysconfig, 'get_paths', lambda: {'include': '/no/headers'}
    )
    monkeypatch.setattr(
        setup_env.importlib.util, 'find_spec', lambda name: name != 'ensurepip' or None
    )
    problems = '\n'.join(setup_env.machine_problems())
    assert '-venv' in problems and '/no/headers' in problems and '-dev' in problems


def test_other_systems_are_refused(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.platform, 'system', lambda: 'Windows')
    assert 'WSL' in setup_env.machine_problems()[0]


def test_disk(setup_env, monkeypatch, capsys):
    usage = namedtuple('usage', 'free')

    def check(gib):
        monkeypatch.setattr(
            setup_env.shutil, 'disk_usage', lambda path: usage(gib * 2**30)
        )
        setup_env.check_disk()
        return capsys.readouterr().out

    assert check(100) == ''
    assert '8.0 GiB of disk are free' in check(8)
    with pytest.raises(SystemExit, match='3.0 GiB of disk are free'):
        check(3)


# The GPU.


@pytest.mark.parametrize(
    'seen, usable, torch_cuda, nvcc, ops, words',
    [
        (False, False, None, '13.0', 'cpu', ''),
        (False, False, '13.0', '13.0', 'cpu', ''),
        (True, True, '13.0', '13.2', 'cuda', 'nvcc 13.2'),
        (False, True, '13.0', '13.0', 'cuda', 'nvcc 13.0'),
        (True, True, '13.0', None, 'cpu', 'there is no nvcc'),
        (True, True, '13.0', '12.8', 'cpu', 'nvcc is of CUDA 12.8'),
        (True, False, '13.0', '13.0', 'cpu', 'cannot use it'),
        (True, False, None, '13.0', 'cpu', 'this torch is a CPU build'),
    ],
)
def test_choose_ops(setup_env, seen, usable, torch_cuda, nvcc, ops, words):
    chosen, why = setup_env.choose_ops(seen, usable, torch_cuda, nvcc)
    assert chosen == ops
    assert (words in why) if words else not why


def test_cpu_torch_is_hinted_at(checkout, setup_env, monkeypatch, capsys):
    def hint():
        setup_env.hint_cpu_torch()
        return capsys.readouterr().out

    monkeypatch.setattr(setup_env.platform, 'system', lambda: 'Linux')
    index = 'https://download.pytorch.org/whl/cpu'
    assert f'PIP_EXTRA_INDEX_URL={index} make demo' in hint()
    checkout.command('nvidia-smi')
    assert hint() == ''
    checkout.command('nvidia-smi', 'exit 9')
    assert hint()
    monkeypatch.setenv('PIP_EXTRA_INDEX_URL', index)
    assert hint() == ''


def test_nvcc_release(checkout, setup_env, monkeypatch):
    monkeypatch.setenv('CUDA_HOME', str(checkout.root / 'cuda'))
    assert setup_env.nvcc_release() is None
    monkeypatch.delenv('CUDA_HOME')
    checkout.command('nvcc', 'echo "Cuda compilation tools, release 13.0, V13.0.88"')
    assert setup_env.nvcc_release() == '13.0'


def test_build_environment(setup_env, monkeypatch):
    monkeypatch.setenv('CXXFLAGS', '-march=native')
    env = setup_env.build_environment('cpu')
    assert env['PATH'].split(os.pathsep)[0] == os.path.join(setup_env.STACK.venv, 'bin')
    assert env['CFLAGS'] == sysconfig.get_config_var('CFLAGS') + ' -g0'
    assert env['CXXFLAGS'].endswith(' -march=native -g0')
    assert (env['FORCE_CUDA'], env['CUDA_VISIBLE_DEVICES']) == ('0', '')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1')
    env = setup_env.build_environment('cuda')
    assert (env['FORCE_CUDA'], env['CUDA_VISIBLE_DEVICES']) == ('1', '1')


@pytest.mark.parametrize('gib, jobs', [(1, '1'), (7, '3'), (100, '8')])
def test_compilers_fit_in_memory(setup_env, monkeypatch, gib, jobs):
    sizes = {'SC_PHYS_PAGES': gib * 2**18, 'SC_PAGE_SIZE': 2**12}
    monkeypatch.setattr(setup_env.os, 'sysconf', sizes.get)
    monkeypatch.setattr(setup_env.os, 'cpu_count', lambda: 8)
    assert setup_env.build_environment('cpu')['MAX_JOBS'] == jobs
    monkeypatch.setenv('MAX_JOBS', '5')
    assert setup_env.build_environment('cpu')['MAX_JOBS'] == '5'


# The whole, once and again.


def test_sets_up_once(checkout):
    checkout.fake_venv()
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert '2 minutes on 2 cores' in done.stdout
    mmcv, package, *pinned = checkout.installs()
    assert mmcv == ['onedl-mmcv', str(checkout.lock), '--ops', 'cpu']
    assert package[-2:] == ['-e', str(checkout.root)]
    # Side by side: what one installs is not among what the other does.
    assert all(each[:2] == ['--no-deps', '-r'] for each in pinned)
    contents = sorted(Path(each[-1]).read_text() for each in pinned)
    assert contents == ['scipy==1\n', 'torch==1\n']
    assert 'CUDA_VISIBLE_DEVICES=' in checkout.env_file.read_text()

    done = checkout.run()
    assert (done.returncode, done.stdout) == (0, '')
    assert checkout.calls() == []


def test_sets_up_openmmlab_beside_it(openmmlab):
    openmmlab.fake_venv()
    done = openmmlab.run('--stack', 'openmmlab')
    assert done.returncode == 0, done.stderr
    mmcv, *_ = openmmlab.installs()
    assert mmcv[:2] == ['mmcv', str(openmmlab.lock)]
    assert openmmlab.stamp.exists() and openmmlab.env_file.exists()
    assert not (openmmlab.root / '.venv').exists()

    done = openmmlab.run('--stack', 'openmmlab')
    assert (done.returncode, done.stdout) == (0, '')
    assert openmmlab.calls() == []


def test_sets_up_again_for_another_lock(checkout):
    checkout.fake_venv()
    checkout.run()
    checkout.installs()
    checkout.lock.write_text('torch==2\n')
    checkout.run()
    assert len(checkout.installs()) == NUM_INSTALLS


def test_sets_up_again_where_the_checkout_was_moved(checkout):
    checkout.fake_venv()
    checkout.run()
    moved = Checkout(checkout.root.with_name('moved'))
    checkout.venv.rename(moved.venv)
    moved.installs()
    moved.run()
    assert len(moved.installs()) == NUM_INSTALLS


def test_a_failed_install_is_not_taken_as_done(checkout):
    checkout.fake_venv(pip_fails_on='onedl-mmcv')
    done = checkout.run()
    assert done.returncode == 1
    assert 'install_mmcv.py onedl-mmcv' in done.stderr
    assert str(checkout.venv / 'setup-logs' / 'mmcv.log') in done.stderr
    assert len(checkout.installs()) == NUM_INSTALLS - 1
    assert not checkout.stamp.exists()

    checkout.fake_venv()
    assert checkout.run().returncode == 0
    assert len(checkout.installs()) == NUM_INSTALLS
    assert checkout.stamp.exists()


def test_a_failed_update_is_not_taken_as_done(checkout):
    checkout.fake_venv()
    checkout.run()
    old = checkout.lock.read_text()
    checkout.lock.write_text('torch==2\n')
    checkout.fake_venv(pip_fails_on=str(checkout.venv / 'first.txt'))
    assert checkout.run().returncode == 1
    # Some of the new lock may be there: the old one is no longer done either.
    checkout.lock.write_text(old)
    checkout.fake_venv()
    checkout.installs()
    checkout.run()
    assert len(checkout.installs()) == NUM_INSTALLS


def test_half_a_stamp_is_none(checkout):
    checkout.fake_venv()
    checkout.run()
    checkout.stamp.write_text(checkout.stamp.read_text()[:20])
    checkout.installs()
    checkout.run()
    assert len(checkout.installs()) == NUM_INSTALLS


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_ends_what_it_started(checkout, number):
    checkout.fake_venv(pip_waits=True)
    process = subprocess.Popen(
        [sys.executable, checkout.script],
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell's background jobs, and all that they start, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    logs = [checkout.venv / 'setup-logs' / f'{name}.log' for name in ('torch', 'rest')]
    wait_until(lambda: all(is_at_work(log) for log in logs))
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not checkout.stamp.exists()
    for *_, pip in checkout.calls()[-2:]:
        with pytest.raises(ProcessLookupError):
            os.kill(pip, 0)


def test_two_at_once_set_up_once(checkout):
    checkout.fake_venv(pip_waits=True)
    command = [sys.executable, checkout.script]
    kwargs = {'env': checkout.environment(), 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen(command, **kwargs) as first:
        log = checkout.venv / 'setup-logs' / 'torch.log'
        wait_until(lambda: is_at_work(log))
        with subprocess.Popen(command, **kwargs) as second:
            assert 'Waiting for another' in second.stdout.readline()
            (checkout.venv / 'bin' / 'go').touch()
            assert first.wait(timeout=120) == 0
            assert second.wait(timeout=120) == 0
    assert len(checkout.installs()) == NUM_INSTALLS


def is_at_work(log):
    return log.exists() and 'pip says' in log.read_text()


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, 'it did not come to that'
        time.sleep(0.02)


def test_vanished_python_is_made_anew(checkout):
    checkout.fake_venv()
    checkout.run()
    python = checkout.venv / 'bin' / 'python'
    python.unlink()
    python.symlink_to(checkout.root / 'gone')
    leftover = checkout.venv / 'leftover'
    leftover.touch()
    # The real pip of the new .venv gets nowhere: it may use no index.
    done = checkout.run(PIP_NO_INDEX='1', PIP_CONFIG_FILE=os.devnull)
    assert done.returncode == 1
    assert 'whl/cpu' in done.stdout and 'ERROR: ' in done.stderr
    assert not leftover.exists() and not checkout.stamp.exists()
    assert subprocess.call([python, '-c', 'import pip']) == 0


def test_keeps_the_python_of_venv_when_none_is_asked_for(checkout):
    checkout.fake_venv()
    checkout.run()
    stamp = json.loads(checkout.stamp.read_text())
    checkout.stamp.write_text(json.dumps({**stamp, 'python': OTHER_PYTHON}))
    checkout.fake_venv(version=OTHER_PYTHON)
    checkout.calls()
    assert checkout.run('--keep-python').returncode == 0
    assert checkout.calls() == []
    # What has to be done again is done by that Python too.
    checkout.lock.write_text('torch==2\n')
    checkout.run('--keep-python')
    assert checkout.calls()[-1][0] == [str(checkout.script), '--keep-python']


# mmcv as pip had it, and the GPU.


def test_gpu_without_nvcc_is_hidden(checkout):
    checkout.command('nvidia-smi')
    checkout.command('nvcc', 'exit 1')
    checkout.fake_venv(torch=['13.0', True])
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert 'there is no nvcc' in done.stdout
    calls = checkout.calls()
    # A CUDA build comes with packages that the lock does not pin.
    assert ['-m', 'pip', 'install', '-c', str(checkout.lock), 'torch'] in [
        args for args, *_ in calls
    ]
    (seen,) = (seen for args, seen, _ in calls if 'install_mmcv.py' in args[0])
    assert seen == {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}
    assert 'export CUDA_VISIBLE_DEVICES=\n' in checkout.env_file.read_text()


def test_cpu_build_in_the_cache_is_compiled_anew_for_the_gpu(checkout):
    checkout.command('nvidia-smi')
    checkout.command('nvcc', 'echo release 13.0,')
    checkout.fake_venv(torch=['13.0', True], ops=[[0, 'cpu'], [0, 'cuda']])
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert 'it has no GPU operations' in done.stdout
    calls = [call for call in checkout.calls() if 'install_mmcv.py' in call[0][0]]
    first, again = (args[-3:] for args, *_ in calls)
    assert first[-2:] == ['--ops', 'cuda'] and again == ['--ops', 'cuda', '--anew']
    assert {seen['FORCE_CUDA'] for _, seen, _ in calls} == {'1'}
    assert 'export' not in checkout.env_file.read_text()


@pytest.mark.parametrize('broken', [NO_EXT, [3, 'undefined symbol: _ZN2at']])
def test_mmcv_that_does_not_load_is_compiled_anew(checkout, broken):
    checkout.fake_venv(ops=[broken, [0, 'cpu']])
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert broken[1] in done.stdout
    (again,) = (args for args in checkout.installs() if '--anew' in args)
    assert again[0] == 'onedl-mmcv'


def test_mmcv_is_compiled_anew_only_once(checkout):
    checkout.fake_venv(ops=[NO_EXT])
    done = checkout.run()
    assert done.returncode == 1 and NO_EXT[1] in done.stderr
    assert len(checkout.installs()) == NUM_INSTALLS + 1
    assert not checkout.stamp.exists()


def test_other_faults_are_not_compiled_away(checkout):
    checkout.fake_venv(ops=[[1, "No module named 'torch'"]])
    done = checkout.run()
    assert done.returncode == 1 and "No module named 'torch'" in done.stderr
    assert len(checkout.installs()) == NUM_INSTALLS


def test_probe_of_this_mmcv(setup_env):
    command = [sys.executable, '-c', setup_env.OPS_PROBE]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.strip() in ('cpu', 'cuda')


def test_probe_of_mmcv_without_operations(setup_env, tmp_path):
    (tmp_path / 'torch.py').touch()
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    done = subprocess.run(
        [sys.executable, '-c', setup_env.OPS_PROBE],
        env={'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == tuple(NO_EXT)


# The Makefile.


def test_make_runs_the_demo_with_the_gpu_hidden(checkout):
    checkout.fake_venv()
    for target in ('demo', 'test'):
        done = checkout.make('-j2', target, 'ARGS=-k loss', PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr
        args, seen, _ = checkout.calls()[-1]
        assert args[-2:] == ['-k', 'loss']
        assert seen['CUDA_VISIBLE_DEVICES'] == ''


def test_make_lint_adds_its_tools_once_for_the_same_pins(checkout):
    checkout.fake_venv()
    pins = checkout.lock.with_name('dev.txt')

    def installs_of_a_lint():
        done = checkout.make('lint', PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr
        calls = [args for args, *_ in checkout.calls()]
        assert [args[1] for args in calls[-3:]] == ['ruff', 'ruff', 'mypy']
        return sum('requirements/dev.txt' in args for args in calls)

    for pinned in ('ruff==1\n', 'ruff==2\n', 'ruff==1\n'):
        pins.write_text(pinned)
        assert installs_of_a_lint() == 1
        assert installs_of_a_lint() == 0


def test_make_lint_tries_again_where_its_tools_are_not_there(checkout):
    for _ in range(2):
        checkout.fake_venv(pip_fails_on='requirements/dev.txt')
        checkout.lock.with_name('dev.txt').write_text('ruff==1\n')
        done = checkout.make('lint', PYTHON=sys.executable)
        calls = [args for args, *_ in checkout.calls()]
        assert done.returncode != 0
        assert 'requirements/dev.txt' in calls[-1]


def test_make_stops_where_setup_does(checkout):
    checkout.fake_venv(pip_fails_on=str(checkout.venv / 'first.txt'))
    done = checkout.make('demo', PYTHON=sys.executable)
    assert done.returncode != 0
    assert ['tools/demo.py'] not in [args for args, *_ in checkout.calls()]


def test_make_names_a_python_that_is_missing(checkout):
    done = checkout.make('demo', 'PYTHON=no-such-python')
    assert done.returncode != 0
    assert 'There is no no-such-python here' in done.stderr


def test_make_runs_the_tests_with_openmmlabs_stack(openmmlab):
    openmmlab.fake_venv()
    done = openmmlab.make('test-openmmlab', 'ARGS=-k loss', PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    args, *_ = openmmlab.calls()[-1]
    assert args[:2] == ['-m', 'pytest'] and args[-3:] == ['tests', '-k', 'loss']


def test_distclean_removes_both_environments(checkout):
    checkout.fake_venv()
    checkout.root.joinpath('.venv-openmmlab').mkdir()
    assert checkout.make('distclean').returncode == 0
    assert not list(checkout.root.glob('.venv*'))
