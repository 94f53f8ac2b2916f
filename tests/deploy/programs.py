"""What the programs really are: their flags and defaults, asked of the programs themselves."""

import functools
import os
import pathlib
import re
import shutil
import subprocess

SOURCE = pathlib.Path(os.environ["YANGTUO_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"])
BINARIES = BUILD / "bin"
POEM_ALPACA = SOURCE / "deploy" / "models" / "poem-alpaca"

PREFIXES = {"yangtuo-gateway": "YANGTUO_GATEWAY_", "yangtuo-tokenizer": "YANGTUO_TOKENIZER_",
            "yangtuo-worker": "YANGTUO_WORKER_"}


def run(command, limit=60, environment=None, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=limit,
                          env=environment, **options)


@functools.cache
def flags(program):
    """Every long flag of a program, from its --help."""
    result = run([BINARIES / program, "--help"])
    assert result.returncode == 0, result.stderr
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", result.stdout.split("Examples:")[0]))


@functools.cache
def default_listen(program):
    """{flag: (host, port)} of the addresses that a program listens on by default."""
    text = run([BINARIES / program, "--help"]).stdout
    found = re.findall(r"--([a-z-]*listen)\s+\S+?=([\d.]+):(\d+)", text)
    assert found, text
    return {flag: (host, int(port)) for flag, host, port in found}


def flag_of(program, variable):
    """The flag that an environment variable of a program stands for, None when it is not the program's."""
    prefix = PREFIXES[program]
    return variable[len(prefix):].lower().replace("_", "-") if variable.startswith(prefix) else None


@functools.cache
def node_folder(name):
    """A folder of this one, copied below the build folder with its npm packages; None when npm cannot have them."""
    if not shutil.which("npm"):
        return None
    source = pathlib.Path(__file__).parent / name
    folder = BUILD / "tests" / "deploy" / name
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (source / "package.json").read_text()
    installed = folder / "package.json"
    if not (folder / "node_modules").exists() or not installed.exists() or installed.read_text() != wanted:
        installed.write_text(wanted)
        install = run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"], limit=240)
        if install.returncode != 0:
            installed.unlink()
            return None
    for file in source.iterdir():
        shutil.copy(file, folder)
    return folder
