"""How commands end: told to stop at any moment, read by nobody, or unable to print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esc_arch.common.ending import Stopped, going_on_when_repeated, stoppable
from esc_arch.common.errors import UserError, one_sentence, printable

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def run(code: str, **more: object) -> subprocess.CompletedProcess[str]:
    head = "import os, signal, sys, time\nfrom esc_arch.common.errors import *\n"
    return subprocess.run([sys.executable, "-c", head + code], text=True, check=False, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "command",
    [
        *(["-m", f"esc_arch.{name}"] for name in ("upscale", "export", "compare", "train", "report")),
        *([str(ROOT / f"datasets/prepare_{name}.py")] for name in ("benchmarks", "training", "demo")),
    ],
    ids=lambda command: command[-1].rpartition("/")[2],
)
def test_stopped_during_the_imports(tmp_path: Path, command: list[str], number: int) -> None:
    """Signals that come while an import runs: one from within the first module that is not of the package."""
    ending = f"import os\nos.kill(os.getpid(), {int(number)})\nfor _ in range(99):\n    pass\n"
    (tmp_path / "torch.py").write_text(ending)
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Interrupted." if number == signal.SIGINT else "Ended by SIGTERM.")


def test_imported_by_others_changes_no_handler() -> None:
    code = "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    code += "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    assert run(code, stdout=subprocess.PIPE).stdout == "True\nTrue\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_stopped_while_it_works(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)

    @one_sentence
    def main() -> None:
        with going_on_when_repeated():
            signal.raise_signal(number)
            time.sleep(9)

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 128 + number
    told = capsys.readouterr().err
    assert told.endswith("; the same command goes on from here.\n")
    assert told.count("\n") == 1
    assert signal.getsignal(number) is before


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    with stoppable(), pytest.raises(Stopped):
        signal.raise_signal(signal.SIGINT)


def test_second_signal_ends_at_once_without_remains(tmp_path: Path) -> None:
    code = f"""
from esc_arch.common.whole_files import replacing
@one_sentence
def main():
    with replacing({str(tmp_path / "a")!r}) as stream:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
            os.write(2, b"slept")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
            os.write(2, b"slept")
main()
"""
    done = run(code, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (143, "Ended by SIGTERM.\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_copies_leave_ctrl_c_to_the_first_process() -> None:
    code = """
@one_sentence
def main():
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(9)
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
main()
"""
    done = run(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "15\n", "")


WORK = """
@one_sentence
def main():
    for number in range(9):
        print("x" * 20000, flush=True)
        print("y", file=sys.stderr)
    open(sys.argv[1], "w").write("done")
main()
"""


def test_reader_that_goes_away_does_not_disturb(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text("import sys\nfrom esc_arch.common.errors import *\n" + WORK)
    command = f'"{sys.executable}" "{script}" "{tmp_path}/there" 2>&1 | head -c 1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")
    assert (tmp_path / "there").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run("@one_sentence\ndef main():\n    print('x')\nmain()", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "Error: standard output cannot be written (No space left on device).\n"


def test_a_message_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A path may have line breaks, as D:\\new has between double quotes in YAML."""

    @one_sentence
    def fails() -> None:
        raise UserError("D:\new\train does not exist.")

    with pytest.raises(SystemExit):
        fails()
    assert capsys.readouterr().err == "Error: D:\\new\\train does not exist.\n"


def test_names_that_the_system_cannot_write_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @one_sentence
    def fails() -> None:
        (tmp_path / "x").write_text("\u00fcber", encoding="ascii")

    with pytest.raises(SystemExit) as ended:
        fails()
    assert ended.value.code == 1
    told = "Error: '\u00fc' cannot be written in the encoding of this system (ascii); set PYTHONUTF8=1, or choose"
    assert capsys.readouterr().err.startswith(told)


def test_every_name_can_be_printed() -> None:
    code = "@one_sentence\ndef main():\n    print('\\udcff', file=sys.stdout)\n    raise UserError('\\udcfe')\nmain()"
    done = run(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (1, "\\udcff\n", "Error: \\udcfe\n")
    assert printable("a b\n\udcffä\x1b") == "a b\\n\\udcffä\\x1b"
    assert isinstance(UserError("x"), ValueError)
