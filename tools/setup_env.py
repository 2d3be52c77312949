# SPDX-License-Identifier: Apache-2.0
"""Set up a virtual environment with what the demo and the tests need, once.

`make setup`, `make demo` and `make test` run this, and `make test-openmmlab` with
`--stack openmmlab`.  It uses the standard library only, and parses on Python 3.6,
so that a Python too old is told so in words.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
THIS_PYTHON = '.'.join(platform.python_version_tuple()[:2])
FITTING_PYTHONS = ['3.11', '3.12', '3.10']
GIB = 2**30
# What compiling mmcv takes: torch with what it imports, and tools.
FIRST = (
    'torch',
    'filelock',
    'fsspec',
    'jinja2',
    'markupsafe',
    'mpmath',
    'networkx',
    'numpy',
    'sympy',
    'typing-extensions',
    'setuptools',
    'wheel',
    'packaging',
    'ninja',
    'psutil',
)


class Stack:
    """A line of MMDetection's packages, and the environment that has it.

    Args:
        lock (str): What pins it, in requirements/.
        venv (str): The folder of its environment, in the checkout.
        mmcv (str): The distribution that has mmcv.
        setup (str): The make target that sets it up.
    """

    def __init__(self, lock, venv, mmcv, setup):
        self.lock = os.path.join(ROOT, 'requirements', lock)
        self.name = venv
        self.mmcv = mmcv
        self.setup = setup
        self.venv = os.path.join(ROOT, venv)
        self.python = os.path.join(self.venv, 'bin', 'python')
        self.stamp = os.path.join(self.venv, 'setup.json')
        self.logs = os.path.join(self.venv, 'setup-logs')
        self.env_file = os.path.join(self.venv, 'env.sh')


STACKS = {
    'onedl': Stack('lock.txt', '.venv', 'onedl-mmcv', 'setup'),
    'openmmlab': Stack(
        'openmmlab.txt', '.venv-openmmlab', 'mmcv', 'setup STACK=openmmlab'
    ),
}
# The one to set up: what --stack says.
STACK = STACKS['onedl']

CPU_TORCH_HINT = """\
No NVIDIA GPU found.  Unless your pip settings say otherwise, pip now fetches
torch's CUDA build, several GB.  For the small CPU build, stop this and run
  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo"""

CPU_OPS_COST = """\
So mmcv's operations are compiled for the CPU only.  Those refuse tensors on a
GPU: a model would train there, but stop at its first evaluation, in NMS.  The
make targets therefore hide the GPU and run on the CPU; for a script run by
hand, put CUDA_VISIBLE_DEVICES= before the command."""

# A CUDA build of torch depends on packages that the lock leaves to it.
TORCH_LACKS = """
from importlib.metadata import requires
lacks = [each for each in requires('torch') if each.startswith(('nvidia', 'cuda'))]
print('CUDA' if lacks else 'nothing')
"""

# Status 3 tells that compiling mmcv anew may help: its operations do not load
# or do not work, as when pip's cache held a build for another torch.
OPS_PROBE = """
import sys, torch, mmcv
try:
    import mmcv._ext
    from mmcv.ops import get_compiling_cuda_version, nms
    ops = 'cpu' if get_compiling_cuda_version() == 'not available' else 'cuda'
    devices = {'cpu', ops} if torch.cuda.is_available() else {'cpu'}
    for device in devices:
        boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.]]).to(device)
        scores = torch.tensor([.5, .9]).to(device)
        assert nms(boxes, scores, .5)[1].tolist() == [1], 'NMS result is wrong'
except (ImportError, RuntimeError, AssertionError) as error:
    print(error, file=sys.stderr)
    sys.exit(3)
print(ops)
"""


def say(text):
    print(text, flush=True)


def fail(text):
    sys.exit('\nSet-up stopped: ' + text)


def output_of(*command):
    """Return what a command printed, or None where it fails or is not here."""
    try:
        return subprocess.check_output(
            command, stderr=subprocess.DEVNULL, timeout=60, encoding='utf-8'
        )
    except (OSError, subprocess.SubprocessError):
        return None


# What the machine must have before anything is downloaded.


def python_problem(version):
    """Say why a Python of this version ('3.11') does not do, or None."""
    if version in FITTING_PYTHONS:
        return None
    names = ['python' + fitting for fitting in FITTING_PYTHONS]
    # Run, for a name that pyenv put on PATH may stand for nothing.
    found = next((name for name in names if output_of(name, '-V')), None)
    todo = (
        f'There is a {found} here: run `make PYTHON={found} demo`.'
        if found
        else 'Install one, and give its path: `make PYTHON=/path/to/python3.12 demo`.'
    )
    return f'Python 3.10, 3.11 or 3.12 is needed; this is {version}.  {todo}'


def find_compiler():
    """Return the C++ compiler to use: $CXX or the first known one, or None."""
    named = os.environ.get('CXX')
    names = [named] if named else ['c++', 'g++', 'clang++']
    # $CXX may have arguments, as in `ccache g++`.
    return next((name for name in names if shutil.which(name.split()[0])), None)


def machine_problems():
    """List what this machine lacks, each with what to do about it."""
    if platform.system() not in ('Linux', 'Darwin'):
        return ['Only Linux and macOS are supported (on Windows, use WSL).']
    problems = []
    if not all(map(importlib.util.find_spec, ('venv', 'ensurepip'))):
        problems.append(
            'This Python cannot make virtual environments.  On Debian or '
            f'Ubuntu: apt install python{THIS_PYTHON}-venv'
        )
    include = sysconfig.get_paths()['include']
    if not os.path.exists(os.path.join(include, 'Python.h')):
        problems.append(
            f'Compiling mmcv takes Python.h, which is not in {include}.  On '
            f'Debian or Ubuntu: apt install python{THIS_PYTHON}-dev; on '
            'Fedora: dnf install python3-devel'
        )
    if not find_compiler():
        named = os.environ.get('CXX')
        lack = (
            f'CXX={named} is not on PATH'
            if named
            else 'none is on PATH (c++, g++, clang++)'
        )
        problems.append(
            f'Compiling mmcv takes a C++ compiler, and {lack}.  On Debian or '
            'Ubuntu: apt install g++; on Fedora: dnf install gcc-c++; on '
            'macOS: xcode-select --install'
        )
    return problems


def check_disk():
    """Stop, or warn, where the disk has little room for an environment."""
    free = shutil.disk_usage(ROOT).free / GIB
    room = f'{free:.1f} GiB of disk are free here.  {STACK.name} takes up to'
    if free < 4:
        fail(f'{room} 4 GiB (12 GiB with the CUDA build of torch).')
    if free < 12:
        say(f'Note: {room} 12 GiB with the CUDA build of torch (CPU: 4 GiB).')


# Whether mmcv's operations are compiled for the GPU too.


def gpu_seen():
    return output_of('nvidia-smi', '-L') is not None


def hint_cpu_torch():
    """Say how to get torch's small build, to who seems to need no other."""
    if (
        platform.system() == 'Linux'
        and not gpu_seen()
        and ('whl/cpu' not in os.environ.get('PIP_EXTRA_INDEX_URL', ''))
    ):
        say(CPU_TORCH_HINT)


def nvcc_release():
    """Return the CUDA release ('13.0') of the nvcc torch would use, or None."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    nvcc = (
        os.path.join(home, 'bin', 'nvcc')
        if home
        else (shutil.which('nvcc') or '/usr/local/cuda/bin/nvcc')
    )
    found = re.search(r'release (\d+\.\d+)', output_of(nvcc, '--version') or '')
    return found and found.group(1)


def choose_ops(seen, usable, torch_cuda, nvcc):
    """Choose what to compile mmcv's operations for.

    Args:
        seen (bool): The driver lists a GPU.
        usable (bool): torch can use a GPU.
        torch_cuda (str | None): The CUDA release that torch was built for.
        nvcc (str | None): The CUDA release of nvcc.

    Returns:
        tuple: 'cuda' or 'cpu', and what to tell the user ('' without a GPU).
    """
    if not (seen or usable):
        return 'cpu', ''
    if not torch_cuda:
        return 'cpu', (
            'There is an NVIDIA GPU, but this torch is a CPU build: '
            'everything runs on the CPU.'
        )
    if not usable:
        return 'cpu', (
            f'There is an NVIDIA GPU, but torch (CUDA {torch_cuda}) cannot use '
            'it: its driver may be too old,\nor CUDA_VISIBLE_DEVICES hides it.'
            f'\n{CPU_OPS_COST}\nTo use the GPU, mend that and run `make '
            f'distclean {STACK.setup}`.'
        )
    if nvcc and nvcc.split('.')[0] == torch_cuda.split('.')[0]:
        return 'cuda', (
            f'mmcv is compiled for NVIDIA GPUs too (nvcc {nvcc}, '
            f'torch for CUDA {torch_cuda}).'
        )
    lack = f'nvcc is of CUDA {nvcc}' if nvcc else 'there is no nvcc'
    return 'cpu', (
        f'There is an NVIDIA GPU and torch for CUDA {torch_cuda}, but {lack}.\n'
        f'{CPU_OPS_COST}\nTo use the GPU, install the toolkit of CUDA '
        f'{torch_cuda} (it has nvcc) and run `make distclean {STACK.setup}`;\nor '
        f'have pip find a ready CUDA wheel of {STACK.mmcv} (PIP_FIND_LINKS): of '
        'onedl-mmcv,\nhttps://mmwheels.onedl.ai has some, by Python, torch and '
        'CUDA version'
    )


def build_environment(ops):
    """Return the environment in which pip compiles mmcv."""
    env = dict(os.environ, CXX=find_compiler())
    # torch wants ninja on PATH; without it, it compiles one file at a time.
    env['PATH'] = os.path.join(STACK.venv, 'bin') + os.pathsep + env['PATH']
    for name in ('CFLAGS', 'CXXFLAGS'):
        # Setting these drops Python's own flags, its -O3 among them, so they
        # go first.  -g0: debug symbols make the build slower and much larger.
        flags = [sysconfig.get_config_var('CFLAGS'), env.get(name), '-g0']
        env[name] = ' '.join(filter(None, flags))
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    # A compiler process takes up to 2 GiB.
    jobs = max(1, min(os.cpu_count() or 1, memory // (2 * GIB)))
    env.setdefault('MAX_JOBS', str(jobs))
    env['FORCE_CUDA'] = '1' if ops == 'cuda' else '0'
    if ops == 'cpu':
        # mmcv's setup.py compiles for CUDA wherever torch sees a GPU.
        env['CUDA_VISIBLE_DEVICES'] = ''
    return env


# The steps.


class Step:
    """A command that runs, its output in a log.

    Args:
        name (str): Of the log, among those of the environment.
        command (list): The command and its arguments.
        env (dict | None): Its environment, this one's by default.
    """

    def __init__(self, name, command, env=None):
        self.log = os.path.join(STACK.logs, name + '.log')
        with open(self.log, 'wb') as file:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self):
        """Return what it printed, or the end of that if it is long."""
        with open(self.log, 'rb') as log:
            log.seek(max(0, os.path.getsize(self.log) - 2**16))
            return log.read().decode(errors='replace')

    def progress(self):
        """Return how many files it compiled, in ninja's words ('[7/90]')."""
        counts = re.findall(r'^\s*(\[\d+/\d+\])', self.output(), re.MULTILINE)
        return f', compiled {counts[-1]}' if counts else ''

    def stop(self):
        """End it with all that it started, as the compilers of pip."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()


def run_steps(what, *starts):
    """Run steps side by side, with a sign of life on screen.

    Where one of them fails, the set-up stops after the others and shows the end of
    its log.

    Args:
        what (str): What is done.
        *starts (Callable): Each starts a step and returns it.
    """
    say(what)
    on_terminal = sys.stdout.isatty()
    started = time.time()
    steps = []
    try:
        for start in starts:
            steps.append(start())
        for step in steps:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    step.process.wait(1 if on_terminal else 30)
                    break
                life = f'  {time.time() - started:.0f} s{steps[-1].progress()}'
                print(
                    f'\r{life:<40}' if on_terminal else life,
                    end='' if on_terminal else '\n',
                    flush=True,
                )
    finally:
        for step in steps:
            step.stop()
    took = f'  took {time.time() - started:.0f} s'
    say(f'\r{took:<40}' if on_terminal else took)
    for step in steps:
        if step.process.returncode:
            end = '\n'.join(step.output().splitlines()[-30:])
            fail(
                f'that did not work.  The end of {step.log}:\n\n{end}\n\n'
                'Once the cause is mended, run the same command again: what is '
                'installed stays.\n(Where a compiler was killed, memory was '
                'short: put MAX_JOBS=1 before the command.)'
            )


def pip_install(name, *args):
    return Step(name, [STACK.python, '-m', 'pip', 'install', *args])


def install_mmcv(ops, *args):
    """Start what compiles mmcv's operations, or finds them compiled."""
    script = os.path.join(ROOT, 'tools', 'install_mmcv.py')
    command = [STACK.python, script, STACK.mmcv, STACK.lock, '--ops', ops, *args]
    return Step('mmcv', command, build_environment(ops))


def split_lock():
    """Write what the lock pins to two files, without mmcv; return their paths.

    The one is of FIRST, the other of the rest.
    """
    paths = [os.path.join(STACK.venv, name + '.txt') for name in ('first', 'rest')]
    with open(STACK.lock) as lock:
        pins = [line for line in lock if re.match(r'[\w.-]+==', line)]
    first = [line for line in pins if line.split('==')[0] in FIRST]
    rest = [line for line in pins if line.split('==')[0] not in FIRST + (STACK.mmcv,)]
    for path, lines in zip(paths, (first, rest)):
        with open(path, 'w') as file:
            file.writelines(lines)
    return paths


def run_python(code):
    """Run Python code in the environment; return its exit status and words."""
    try:
        process = subprocess.Popen(
            [STACK.python, '-c', code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding='utf-8',
        )
    except OSError as error:
        return 1, str(error)
    printed, errors = process.communicate()
    said = errors if process.returncode else printed
    return process.returncode, said.strip()


def must_run(code, advice=None):
    """Run Python code that has to work there; return what it printed."""
    status, said = run_python(code)
    if status:
        again = f'`make distclean {STACK.setup}` installs everything anew.'
        fail(f'what was installed does not work:\n\n{said}\n\n{advice or again}')
    return said


def venv_version():
    """Return the version of the Python there ('3.11'), or None if unusable."""
    status, said = run_python('import sys, pip; print("%d.%d" % sys.version_info[:2])')
    return None if status else said


def install():
    """Install everything; return what mmcv's operations run on."""
    # Side by side, so without what they depend on. The lock has that too, save
    # opencv-python, which it leaves out on purpose (see lock.in).
    first, others = split_lock()
    rest = pip_install('rest', '--no-deps', '-r', others)
    try:
        run_steps(
            '[1/4] Installing torch, and beside it the rest',
            lambda: pip_install('torch', '--no-deps', '-r', first),
        )
        if must_run(TORCH_LACKS) != 'nothing':
            # Triton is among them and among the rest: one after the other.
            run_steps('      Installing the rest', lambda: rest)
            run_steps(
                "      Installing torch's CUDA packages",
                lambda: pip_install('cuda', '-c', STACK.lock, 'torch'),
            )
        torch_cuda, gpu_usable = json.loads(
            must_run(
                'import json, torch; print(json.dumps('
                '[torch.version.cuda, torch.cuda.is_available()]))'
            )
        )
        # FORCE_CUDA=1 is mmcv's way to compile for a GPU that is not there now.
        wanted = gpu_usable or os.environ.get('FORCE_CUDA') == '1'
        ops, why = choose_ops(gpu_seen(), wanted, torch_cuda, nvcc_release())
        if why:
            say(why)
        cost = '2 minutes' if ops == 'cpu' else '10 minutes and more'
        run_steps(
            f"[2/4] Compiling mmcv's operations: {cost} on 2 cores (seconds where "
            'an earlier set-up did)',
            lambda: rest,
            lambda: install_mmcv(ops),
        )
    finally:
        rest.stop()
    run_steps(
        '[3/4] Installing this package',
        lambda: pip_install('package', '--no-deps', '--no-build-isolation', '-e', ROOT),
    )
    say('[4/4] Checking that it works')
    must_run(
        'import cv2',
        'OpenCV lacks a system library.  On Debian or '
        'Ubuntu: apt install libgl1 libglib2.0-0',
    )
    have = check_mmcv(ops)
    must_run('import mmdet.apis, sklearn, pytest, ape_mmdet')
    return have


def check_mmcv(ops):
    """Return what mmcv's operations run on, compiled anew if they must be."""
    status, said = run_python(OPS_PROBE)
    if status == 3 or status < 0 or (said, ops) == ('cpu', 'cuda'):
        why = (
            'it has no GPU operations'
            if said == 'cpu'
            else said or f'it ended with signal {-status}'
        )
        say(f'The mmcv that was found does not fit: {why}')
        run_steps(
            'Compiling it anew, file by file: 6 to 12 minutes on 2 cores',
            lambda: install_mmcv(ops, '--anew'),
        )
    return must_run(OPS_PROBE)


def set_up():
    """Make the environment complete, from whatever state it is in."""
    # From here until the stamp is written again, it counts as incomplete.
    with contextlib.suppress(FileNotFoundError):
        os.remove(STACK.stamp)
    if venv_version() != THIS_PYTHON:
        check_disk()
        hint_cpu_torch()
        say(f'Making {STACK.name} with Python {THIS_PYTHON}')
        made = subprocess.call([sys.executable, '-m', 'venv', '--clear', STACK.venv])
        if made:
            fail(f'Python could not make {STACK.name} (see above).')
    os.makedirs(STACK.logs, exist_ok=True)
    say(f'Setting up {STACK.name}, once.  Details: {STACK.logs}')
    ops = install()
    with open(STACK.env_file, 'w') as file:
        file.write('# Written by tools/setup_env.py, read by the Makefile.\n')
        if ops == 'cpu':
            file.write(
                "# mmcv's operations run on the CPU only: hide GPUs.\n"
                'export CUDA_VISIBLE_DEVICES=\n'
            )
    with open(STACK.stamp, 'w') as file:
        json.dump(dict(wanted_stamp(), ops=ops), file)
    say(f"{STACK.name} is ready; mmcv's operations are for {ops.upper()}.")


# Doing it once.


def wanted_stamp():
    """Return what a set-up of this checkout by this Python records."""
    with open(STACK.lock, 'rb') as lock:
        digest = hashlib.sha256(lock.read()).hexdigest()
    # With the root, because ape_mmdet is installed as a link to it.
    return {'lock': digest, 'root': ROOT, 'python': THIS_PYTHON}


def is_done(any_python):
    """Say whether all is there, of this lock and this (or any) Python."""
    try:
        with open(STACK.stamp) as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return False
    wanted = wanted_stamp()
    if any_python:
        del wanted['python']
    return os.access(STACK.python, os.X_OK) and wanted.items() <= stamp.items()


@contextlib.contextmanager
def one_at_a_time():
    """Let one set-up of this checkout run at a time."""
    import fcntl  # Not on Windows, which must get as far as being refused.

    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say('Waiting for another set-up of this checkout to finish')
        fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--keep-python',
        action='store_true',
        help='stay with the Python that the environment has, where that one fits',
    )
    parser.add_argument(
        '--stack',
        choices=sorted(STACKS),
        default='onedl',
        help="whose MMDetection: OneDL's, maintained, in .venv, or OpenMMLab's "
        'last releases, in .venv-openmmlab',
    )
    args = parser.parse_args()
    global STACK
    STACK = STACKS[args.stack]
    keep_python = args.keep_python
    if is_done(any_python=keep_python):
        return
    has = venv_version() if keep_python else THIS_PYTHON
    if has != THIS_PYTHON and has in FITTING_PYTHONS:
        os.execv(STACK.python, [STACK.python] + sys.argv)
    problem = python_problem(THIS_PYTHON)
    problems = [problem] if problem else machine_problems()
    if problems:
        fail('\n'.join(problems))
    with one_at_a_time():
        if not is_done(any_python=keep_python):
            set_up()


def stop(number, frame):
    sys.exit(128 + number)


if __name__ == '__main__':
    for terminated in (signal.SIGTERM, signal.SIGHUP):
        # As an exception, so that run_step ends what it started.
        signal.signal(terminated, stop)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('\nInterrupted.  Run the same command again to go on.')
