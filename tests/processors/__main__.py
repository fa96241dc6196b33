"""`python -m tests.processors avx2 COMMAND…`: runs a command as a lesser processor would."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.where_run import SHOWN_AS

#: How the library is compiled, and the flags of /proc/cpuinfo that go.
PROCESSORS = {
    "avx2": ("-DLESS=1", r"avx512\w*|avx_vnni\w*|amx_\w+"),
    "avx512": ("-DLESS=2", r"avx512_vnni|avx512_4\w+|avx_vnni\w*|amx_\w+"),
}
CPUINFO, PRELOAD = Path("/proc/cpuinfo"), Path("/etc/ld.so.preload")
# A namespace of its own: nothing outside the command sees either file changed.
_SCRIPT = (
    'mount --make-rprivate / && mount --bind "$1" /proc/cpuinfo && '
    'mount --bind "$2" /etc/ld.so.preload && shift 2 && exec "$@"'
)


def hide_flags(cpuinfo: str, hidden: str) -> str:
    """The text of /proc/cpuinfo without the flags that match `hidden`."""
    lines = []
    for line in cpuinfo.splitlines():
        name, colon, flags = line.partition(":")
        if name.strip() == "flags":
            kept = [flag for flag in flags.split() if not re.fullmatch(hidden, flag)]
            line = f"{name}{colon} {' '.join(kept)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] not in PROCESSORS:
        print(f"usage: python -m tests.processors {'|'.join(PROCESSORS)} COMMAND…", file=sys.stderr)
        return 2
    name, command = arguments[0], arguments[1:]
    cpuinfo = CPUINFO.read_text("utf-8")
    if not re.search(r"^flags\b.*\bcpuid_fault\b", cpuinfo, re.MULTILINE):
        print("error: expected a processor whose cpuid can fault (cpuid_fault)", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print("error: expected root, for a mount namespace of its own", file=sys.stderr)
        return 1
    if SHOWN_AS in os.environ:
        print(
            f"error: expected no processor shown yet, found {os.environ[SHOWN_AS]}", file=sys.stderr
        )
        return 1
    macro, hidden = PROCESSORS[name]
    with tempfile.TemporaryDirectory(prefix="aviary-processor-") as folder:
        # Servers that the command starts may run as other users.
        Path(folder).chmod(0o711)
        library, shown, preload = (
            Path(folder) / part for part in ("mask.so", "cpuinfo", "preload")
        )
        source = Path(__file__).with_name("mask.c")
        build = ["cc", "-O2", "-shared", "-fPIC", macro, "-o", library, source, "-ldl"]
        subprocess.run(build, check=True)
        shown.write_text(hide_flags(cpuinfo, hidden), "utf-8")
        preload.write_text(f"{library}\n", "utf-8")
        PRELOAD.touch()  # there must be a file to lay another over
        run = ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", shown, preload, *command]
        # A program with a sanitizer refuses to run behind another library, unless told not to mind.
        env = {**os.environ, SHOWN_AS: name, "ASAN_OPTIONS": "verify_asan_link_order=0"}
        return subprocess.run(run, env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
