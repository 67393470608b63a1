#!/usr/bin/env python3
"""Compares what `samepage estimate` says with what `samepage attach --wait` then saves, by the kernel's Pss.

  benchmarks/estimate/compare.py [WORKLOAD…]     needs root, python3, redis-server, node, qemu-system-x86_64, busybox, and the
                                                 kernel that tests/install-programs takes for guests

Each workload is programs of its own, started for it and ended after it by their pids, and a daemon of its own. Prints a table in Markdown.
"""
import json, os, shutil, signal, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMEPAGE = [os.path.join(ROOT, "samepage")]
WAIT_SECONDS = 150
HUGE = "/sys/kernel/mm/transparent_hugepage/enabled"
REST_SECONDS = 30  # node gives memory back by itself for some seconds after it was busy
GUESTS_REST_SECONDS = 8
AGENT_BYTES = 128 * 1024  # of each process that was taken in: AgentCost

PYTHON = """
import hashlib, sys, json, decimal, email, http.client
blocks = [hashlib.shake_256(b'%d' % i).digest(1 << 20) for i in range(48)]
own = [hashlib.shake_256(b'%s %d' % (sys.argv[1].encode(), i)).digest(1 << 20) for i in range(12)]
table = {('key %d' % i): [i, str(i) * 3] for i in range(80000)}
spare = bytearray(8 << 20)
for i in range(0, len(spare), 4096): spare[i] = 1
for i in range(0, len(spare), 4096): spare[i] = 0
print('ready', flush=True)
sys.stdin.read()
"""
NODE = """
const crypto = require('crypto'), blocks = [];
for (let i = 0; i < 48; i++) { const seed = crypto.createHash('sha256').update(String(i)).digest(), block = Buffer.alloc(1 << 20);
  for (let at = 0; at < block.length; at += 32) seed.copy(block, at); for (let at = 0; at < block.length; at += 4096) block.writeUInt32LE(at, at); blocks.push(block); }
const objects = Array.from({length: 100000}, (_, i) => ({id: i, name: 'name ' + i}));
console.log('ready'); process.stdin.on('data', () => console.log(blocks.length, objects.length));
"""


class Programs:
    def __init__(self):
        self.started, self.folder = [], tempfile.mkdtemp(prefix="samepage-compare-")

    def start(self, *command, ready=True):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self.folder)
        self.started.append(process)
        if ready:
            process.stdout.readline()
        return process

    def python(self, count):
        for i in range(count):
            self.start(shutil.which("python3", path="/usr/bin:" + os.environ["PATH"]), "-c", PYTHON, str(i))

    def node(self, count):
        for _ in range(count):
            self.start("node", "-e", NODE)

    def redis(self, count):
        for i in range(count):
            path = os.path.join(self.folder, f"redis{i}")
            self.start("redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--enable-debug-command", "local", ready=False)
            while not os.path.exists(path):
                time.sleep(0.05)
            subprocess.run(["redis-cli", "-s", path, "debug", "populate", "200000", "key", "200"], check=True, stdout=subprocess.DEVNULL)

    def guests(self, count):
        image = os.path.join(self.folder, "image")
        with open(image, "wb") as file:
            for i in range(32):
                file.write(os.urandom(1 << 20))
        for _ in range(count):
            self.start("qemu-system-x86_64", "-accel", "tcg", "-m", "128", "-display", "none", "-device", f"loader,file={image},addr=0x2000000,force-raw=on", ready=False)
        time.sleep(8)

    def booted(self, count):
        """Guests with an operating system that loaded 32 MiB twice, and 4 MiB of its own, and rests: tests/guest/init without its checks."""
        files = os.path.join(self.folder, "files")
        subprocess.run([os.path.join(ROOT, "tests/guest/initramfs"), files, "32"], check=True)
        for _ in range(count):
            guest = self.start("qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", os.path.join(ROOT, "artifacts/guest/vmlinuz"),
                               "-initrd", files, "-append", "console=ttyS0 quiet rest", ready=False)
            while guest.stdout.readline().strip() != b"ready":
                if guest.poll() is not None:
                    sys.exit("compare: a guest ended before it was ready")

    def end(self):
        for process in self.started:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


WORKLOADS = {
    "Python workers": lambda programs: programs.python(4),
    "Redis replicas": lambda programs: programs.redis(2),
    "Node processes": lambda programs: programs.node(3),
    "QEMU guests": lambda programs: programs.guests(2),
    "booted guests, huge pages never": lambda programs: programs.booted(2),
    "booted guests, huge pages madvise": lambda programs: programs.booted(2),
    "booted guests, huge pages always": lambda programs: programs.booted(2),
    "mixed": lambda programs: (programs.python(2), programs.redis(2), programs.node(2), programs.start("bash", "-c", "echo ready; read x"), programs.start("bash", "-c", "echo ready; read x")),
}


def pss(pids):
    """Of anonymous and of shared memory: that of files changes when anybody starts the same program."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) * 1024
    return total


def samepage(folder, *arguments, seconds=None):
    done = subprocess.run(SAMEPAGE + list(arguments), capture_output=True, text=True, env=dict(os.environ, SAMEPAGE_RUN_DIR=folder), check=False, timeout=seconds)
    if done.returncode != 0:
        sys.exit(f"samepage {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout) if "--json" in arguments else None


def measure(name):
    programs, folder = Programs(), tempfile.mkdtemp(prefix="samepage-compare-")
    daemon = None
    huge = open(HUGE).read().split("[")[1].split("]")[0]
    try:
        if "huge pages" in name:
            open(HUGE, "w").write(name.split()[-1])
        WORKLOADS[name](programs)
        time.sleep(GUESTS_REST_SECONDS if "guests" in name else REST_SECONDS)
        pids = [process.pid for process in programs.started]
        words = [str(pid) for pid in pids]
        estimate = samepage(folder, "estimate", "--json", *words)
        daemon = subprocess.Popen(SAMEPAGE + ["daemon", "--no-rules"], stdout=subprocess.PIPE, env=dict(os.environ, SAMEPAGE_RUN_DIR=folder))
        daemon.stdout.readline()
        before = pss(pids)
        settled, began = True, time.monotonic()
        try:
            samepage(folder, "attach", "--wait", "--json", *words, seconds=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            settled = False
        seconds = time.monotonic() - began
        after = pss(pids) - AGENT_BYTES * len(pids)
        told, saved = estimate["totals"]["saved_pages"] * 4096, before - after
        figures = estimate["totals"]["figures"]
        print(f"| {name} | {len(pids)} | {before / 2**20:.1f} | {figures['zero'] / 256:.1f} | {figures['internal'] / 256:.1f} | {figures['in_domain'] / 256:.1f} | {told / 2**20:.1f} | {saved / 2**20:.1f} | {told / saved if saved else 0:.3f} | {f'{seconds:.0f} s' if settled else 'not settled'} |", flush=True)
        samepage(folder, "detach", "--all")
    finally:
        open(HUGE, "w").write(huge)
        if daemon is not None:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
        programs.end()
        shutil.rmtree(folder, ignore_errors=True)


signal.signal(signal.SIGTERM, lambda *_: sys.exit("compare: ended by SIGTERM"))  # so that what was started is ended, and huge pages are put back
print("| workload | processes | Pss before, MiB | zeros | within | between | estimate, MiB | saved, MiB | estimate / saved | settled in |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
for workload in sys.argv[1:] or WORKLOADS:
    measure(workload)
