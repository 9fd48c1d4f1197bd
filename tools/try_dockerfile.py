"""Carry out the Dockerfile's steps without a container engine, to show that they work.

Each FROM becomes an empty folder with a fresh virtual environment in place of the base image; COPY,
ARG, ENV, WORKDIR and RUN do there what they do in a build, with the RUN lines as they are written.
After USER the program runs without rights (when started as root), and every folder of the image
is read-only to it. What this can't show: the base image itself, and what an engine does.

    python tools/try_dockerfile.py [--python PYTHON] [--build-arg NAME=VALUE ...] [-- ARGUMENTS]

ARGUMENTS are given to the ENTRYPOINT (default: the CMD). PYTHON must be readable by everybody.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Stage:
    """One FROM: its folder, and what the instructions so far have set."""

    root: Path
    workdir: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Where a path of the image lies on this machine."""
        return self.root / str(Path(self.workdir) / path).lstrip("/")

    def run(self, command: list[str]) -> int:
        """Run a command as the stage's user, with nothing of our environment but pip's."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        path = f"{self.root / 'venv' / 'bin'}:/usr/bin:/bin"
        env = {"HOME": str(self.root / "root"), **kept, **self.env, "PATH": path}
        if self.user and os.geteuid() == 0:
            uid, gid = self.user.split(":")
            drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
            command = [*drop, "--no-new-privs", *command]
        return subprocess.run(command, cwd=self.inside("."), env=env, check=False).returncode


def instructions(text: str) -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest) pairs, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in lines]


def context(ignore: list[str]) -> list[Path]:
    """The files that the build may see: those that the last matching line of ignore lets in."""
    chosen = []
    paths = [
        path
        for top in sorted(ROOT.iterdir())
        if top.name not in (".venv", ".git")
        for path in ([top] if top.is_file() else sorted(top.rglob("*")))
        if path.is_file()
    ]
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        left_out = False
        for line in ignore:
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = name.split("/")
            tops = ["/".join(parts[: i + 1]) for i in range(len(parts))]
            where = parts if "**/" in line else tops
            if any(fnmatch.fnmatchcase(part, pattern) for part in where):
                left_out = not line.startswith("!")
        if not left_out:
            chosen.append(path)
    return chosen


def copy(stage: Stage, rest: str, stages: dict[str, Stage], files: list[Path]) -> None:
    """COPY [--from=STAGE] SOURCE DESTINATION"""
    words = shlex.split(rest)
    origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
    source, target = words[0], stage.inside(words[1])
    if origin:
        shutil.copytree(stages[origin].inside(source), target, dirs_exist_ok=True)
    elif source == ".":
        for path in files:
            place = target / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    else:
        assert ROOT / source in files, f"{source} is not in the build context"
        shutil.copy(ROOT / source, target)


def step(
    stage: Stage, word: str, rest: str, arguments: dict[str, str], stages: dict[str, Stage]
) -> None:
    """Carry out one instruction other than FROM."""
    if word == "WORKDIR":
        stage.workdir = str(Path(stage.workdir) / rest)
        stage.inside(".").mkdir(parents=True, exist_ok=True)
    elif word == "ARG":
        name, _, default = rest.partition("=")
        stage.env[name] = arguments.get(name, default)
    elif word == "ENV":
        stage.env.update(pair.split("=", 1) for pair in shlex.split(rest))
    elif word == "COPY":
        ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        lines = [line for line in ignore if line and not line.startswith("#")]
        copy(stage, rest, stages, context(lines))
    elif word == "USER":
        stage.user = rest
    elif word == "ENTRYPOINT":
        stage.entrypoint = json.loads(rest)
    elif word == "CMD":
        stage.command = json.loads(rest)
    elif word == "RUN":
        if code := stage.run(["sh", "-c", rest]):
            sys.exit(f"this RUN ended with {code}: {rest}")
    elif word != "LABEL":
        sys.exit(f"unknown instruction: {word}")


def build(scratch: Path, python: str, arguments: dict[str, str]) -> Stage:
    """All instructions of the Dockerfile; returns the last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(scratch)
    for word, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        print(f"--> {word} {rest}", flush=True)
        if word == "FROM":
            name = rest.split(" AS ")[-1] if " AS " in rest else "last"
            stage = stages[name] = Stage(scratch / name)
            subprocess.run([python, "-m", "venv", str(stage.root / "venv")], check=True)
        else:
            step(stage, word, rest, arguments, stages)
    return stage


def main() -> int:
    """Build, then run the entry point as the user that the Dockerfile names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--build-arg", action="append", default=[])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in options.build_arg)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        stage = build(scratch, options.python, given)
        command = [*stage.entrypoint, *(options.arguments or stage.command)]
        print(f"--> as {stage.user}: {shlex.join(command)}", flush=True)
        return stage.run(command)


if __name__ == "__main__":
    sys.exit(main())
