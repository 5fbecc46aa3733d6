#!/usr/bin/env python3
"""Compares kennel's built-in agents with the registries that publish them.

    real-agents --built-ins | python3 tests/real/built_ins.py

Standard input: one JSON object a line, as kennel has it: name, argv, install, and package (registry, name, minimum, why) or
null. For each package the registry must have it, not deprecated, with the program that kennel starts, and at least in the
minimum version. Asked are npm and pip, as this machine is set up to use them.

Exit status: 0 all agree, 75 a registry does not answer, 1 something differs.
"""

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

NOT_COMPARED = 75


class Silent(Exception):
    """A registry does not answer."""


def numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


# As `run` reads it; and pip's word for each attempt that failed.
NOBODY = Path(__file__).with_name("pip-offline").read_text().strip() + "|Retrying"


def asked(command, absent):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Silent(f"{command[0]}: {error}") from error
    if done.returncode == 0:
        return done.stdout
    # pip says that there is no such package also where nobody answers.
    if re.search(NOBODY, done.stdout + done.stderr):
        raise Silent(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-400:]}")
    if re.search(absent, done.stdout + done.stderr):
        return None
    raise Silent(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-400:]}")


def npm(package):
    """The newest version, its programs, and why it is deprecated; none if there is no such package."""
    fields = ["version", "bin", "deprecated"]
    text = asked(["npm", "view", f"{package}@latest", *fields, "--json"], "E404")
    if text is None:
        return None
    found = json.loads(text)
    return found["version"], set(found.get("bin") or {}), found.get("deprecated")


def pypi(package):
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # The program's names are in the wheel only. Of whatever Python the agent wants.
        any_python = ["--only-binary=:all:", "--python-version=3.12", "--retries=1", "--timeout=20"]
        if asked([*pip, *any_python, "--dest", place, package], "No matching distribution found") is None:
            return None
        wheel = zipfile.ZipFile(next(Path(place).glob("*.whl")))
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        points = ConfigParser()
        entry_points = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        points.read_string("".join(wheel.read(name).decode() for name in entry_points))
        programs = set(points["console_scripts"]) if points.has_section("console_scripts") else set()
        version = re.search(r"^Version: (.+)$", metadata, re.M).group(1)
        inactive = re.search(r"^Classifier: Development Status :: 7 - Inactive", metadata, re.M)
        return version, programs, inactive and inactive.group(0)


def differences(agent):
    """What is wrong with an agent, and what the registry has."""
    package = agent["package"]
    found = {"npm": npm, "pypi": pypi}[package["registry"]](package["name"])
    if found is None:
        return [f"{package['registry']} has no package {package['name']}"], "-"
    version, programs, deprecated = found
    wrong = []
    if agent["argv"][0] not in programs:
        wrong.append(f"it has no program {agent['argv'][0]}, but {', '.join(sorted(programs)) or 'none'}")
    if numbers(package["minimum"]) > numbers(version):
        wrong.append(f"its newest version is {version}, below the minimum {package['minimum']}")
    if deprecated:
        wrong.append(f"it is deprecated: {deprecated}")
    if package["name"] not in agent["install"].split():
        wrong.append(f"kennel's words do not install it: {agent['install']}")
    return wrong, version


def main():
    status = 0
    for agent in map(json.loads, sys.stdin):
        name, package = agent["name"], agent["package"]
        if package is None:
            print(f"built-in {name}: in no registry")
            continue
        try:
            wrong, version = differences(agent)
        except Silent as silent:
            print(f"built-in {name}: NOT COMPARED: {silent}", file=sys.stderr)
            status = status or NOT_COMPARED
            continue
        for what in wrong:
            print(f"built-in {name} ({package['name']}): {what}", file=sys.stderr)
            status = 1
        if not wrong:
            print(f"built-in {name}: {package['name']} {version}, at least {package['minimum']}: {package['why']}")
    sys.exit(status)


main()
