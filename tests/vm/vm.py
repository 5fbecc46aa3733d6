"""A virtual machine for tests: a disk made of programs, and one run of it.

Needs qemu-system-x86_64, mkfs.ext4 with -d, and a kernel with NVMe, ext4 and a serial console built in (Debian's
linux-image-cloud-amd64 is one). Nothing is mounted and nothing needs root.
"""

import atexit, os, re, shutil, subprocess, sys, threading

def libraries(program):
    said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+)\s+\(0x", said)


def build(into, init, tools, programs):
    """A disk with what the machine runs: `init` as its first process, tools by their names, and programs, which are
    in /bin and also where they are here."""
    root = os.path.join(into, "root")
    for name in ["bin", "proc", "sys", "dev", "tmp", "state"]:
        os.makedirs(os.path.join(root, name))
    os.symlink("bin", os.path.join(root, "sbin"))
    for path in [shutil.which(name) for name in tools] + programs:
        name = os.path.join("/bin", os.path.basename(path))
        shutil.copy(path, root + name)
        if path in programs:
            subprocess.run(["strip", root + name], check=False)
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(name, root + path)
        for library in libraries(path):
            to = root + library
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(library, to)
    with open(os.path.join(root, "init"), "w") as file:
        file.write(init)
    os.chmod(os.path.join(root, "init"), 0o755)
    disk = os.path.join(into, "root.img")
    size = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(root) for name in names if not os.path.islink(os.path.join(at, name)))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-d", root, disk, f"{size // 1024 * 5 // 4 + 16384}k"], check=True, stderr=subprocess.DEVNULL)
    shutil.rmtree(root)
    return disk


class Machine:
    """One run of the machine: its lines, as they come."""

    def __init__(self, args, root, state, words):
        """`args` has the kernel and qemu as `options` names them; `words` are init's environment."""
        command = args.qemu.split() + [
            "-m", "768", "-smp", "2", "-nographic", "-no-reboot", "-nic", "none", "-monitor", "none",
            "-kernel", args.kernel,
            "-append", f"console=ttyS0 loglevel=4 panic=-1 root=/dev/nvme0n1 ro init=/init {words}",
            "-drive", f"file={root},format=raw,if=none,id=root,readonly=on", "-device", "nvme,drive=root,serial=root",
            "-drive", f"file={state},format=raw,if=none,id=state,cache=writeback",
            "-device", "nvme,drive=state,serial=state",
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stderr)
        atexit.register(self.process.kill)
        self.lines, self.ended, self.changed = [], False, threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.decode(errors="replace").rstrip("\r\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def until(self, begins, seconds):
        with self.changed:
            there = lambda: any(line.startswith(begins) for line in self.lines)
            self.changed.wait_for(lambda: there() or self.ended, seconds)
            if not there():
                self.cut()
                sys.exit(f"no `{begins}` within {seconds} s:\n" + "\n".join(self.lines[-40:]))

    def count(self, begins, most, seconds):
        """Returns once so many lines begin so, or the time is over."""
        with self.changed:
            enough = lambda: sum(line.startswith(begins) for line in self.lines) >= most
            self.changed.wait_for(lambda: enough() or self.ended, seconds)

    def cut(self):
        """All at once, as when the power goes."""
        self.process.kill()
        self.process.wait()


def options(parser):
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--kernel", required=True, help="the machine's kernel, such as /boot/vmlinuz")
    parser.add_argument("--qemu", default="qemu-system-x86_64", help="and options that it needs, such as -enable-kvm -cpu host")
    parser.add_argument("--programs", default=os.path.join(here, "../../target/release"), help="where kennel was built")
