"""The programs that the steps drive, the daemon, and what the kernel says of them."""
import json
import os
import select
import subprocess
import time

import settings

SAMEPAGE = "/samepage/samepage"
TARGETS = "/targets/"
ANSWER = 240  # seconds within which anybody answers who is not stuck


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def need(condition, text):
    if not condition:
        raise Failed(text() if callable(text) else text)


def bound():
    return ANSWER * settings.patience


def text_of(path):
    """A small file of the kernel's that never waits; empty when what it is about has gone."""
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def is_kernels(name):
    fields = text_of("/proc/%s/stat" % name).rpartition(")")[2].split()
    return len(fields) < 7 or bool(int(fields[6]) & 0x00200000)  # PF_KTHREAD; or it is gone


def everybody():
    """Processes that are programs."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and not is_kernels(name)]


def standing(pid):
    """Where each thread of a process stands, by files that need no lock of its memory."""
    said = []
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return "process %d is gone" % pid
    for thread in threads:
        folder = "/proc/%d/task/%s" % (pid, thread)
        state = text_of(folder + "/stat").rpartition(")")[2].split()[:1]
        stack = " < ".join(line.split()[-1].split("+")[0] for line in text_of(folder + "/stack").splitlines()[:8])
        said.append("%s %s %s in %s" % (thread, text_of(folder + "/comm").strip(), "".join(state), stack or "user space"))
    return "process %d: %s" % (pid, ", ".join(said))


def looked_at(path):
    """A file of the kernel's for which it takes the lock of somebody's memory: read by a process that may wait for ever, in place of this one."""
    reader = subprocess.Popen(["/bin/cat", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        return reader.communicate(timeout=bound())[0].decode()
    except subprocess.TimeoutExpired:
        raise Failed("%s is not answered: %s" % (path, standing(int(path.split("/")[2])))) from None


def processor_seconds(pid):
    fields = text_of("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


class Talker:
    """Somebody who is asked and answers by lines."""

    def __init__(self, command, stdin, environment=None, user=None):
        self.name = os.path.basename(command[0])
        self.errors = "%s/said-%s-%d-%d" % (settings.FOLDER, self.name, os.getpid(), time.monotonic_ns())
        identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **(environment or {})}, cwd="/", **identity)
        self.pid = self.process.pid
        self.rest = b""

    def line(self, seconds=None):
        end = time.monotonic() + (seconds or bound())
        while b"\n" not in self.rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Failed("%s does not answer: %s" % (self.name, standing(self.pid)))
            more = os.read(self.process.stdout.fileno(), 4096)
            if not more:
                raise Failed("%s ended with %s; it said %s" % (self.name, self.ends(), self.tail()))
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def tail(self):
        return " | ".join(text_of(self.errors).splitlines()[-6:])

    def ends(self, seconds=None):
        try:
            return self.process.wait(seconds or bound())
        except subprocess.TimeoutExpired:
            raise Failed("%s does not end: %s" % (self.name, standing(self.pid))) from None


class Program(Talker):
    def __init__(self, name, *arguments, user=None, environment=None):
        super().__init__([TARGETS + name, *map(str, arguments)], subprocess.PIPE, environment, user)
        self.ready = self.line()
        need(self.ready.startswith("ready"), lambda: "%s said %s" % (name, self.ready))

    def ask(self, command, seconds=None):
        self.process.stdin.write((command + "\n").encode())
        self.process.stdin.flush()
        return self.line(seconds)

    def does(self, *commands):
        for command in commands:
            said = self.ask(command)
            need(said == "ok", lambda: "%s %d answers %s with %s; it said %s" % (self.name, self.pid, command, said, self.tail()))

    def close_input(self):
        self.process.stdin.close()

    def kill(self):
        self.process.kill()
        self.ends()


def programs(count, name, *arguments, **keywords):
    return [Program(name, *arguments, **keywords) for _ in range(count)]


def samepage(*arguments, folder=settings.FOLDER + "/run", seconds=None):
    """A command: its exit status, what it printed, and what it complained of."""
    asked = subprocess.Popen([SAMEPAGE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "SAMEPAGE_RUN_DIR": folder})
    try:
        out, errors = asked.communicate(timeout=seconds or bound())
    except subprocess.TimeoutExpired:
        where = "; ".join(standing(pid) for pid in everybody() if pid not in (1, os.getpid()))
        asked.kill()
        raise Failed("samepage %s does not end: %s" % (" ".join(map(str, arguments)), where)) from None
    return asked.returncode, out.decode(), errors.decode().strip()


class Daemon(Talker):
    def __init__(self, folder=settings.FOLDER + "/run", wait=True):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        super().__init__([SAMEPAGE, "daemon", "--no-rules"], subprocess.DEVNULL, {"SAMEPAGE_RUN_DIR": folder})
        while wait and self.line() != "ready":
            pass

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.terminate()
        else:
            print("the daemon said: " + self.tail(), flush=True)

    def cli(self, *arguments, seconds=None):
        return samepage(*arguments, folder=self.folder, seconds=seconds)

    def does(self, *arguments, seconds=None):
        status, out, errors = self.cli(*arguments, seconds=seconds)
        need(status == 0, lambda: "samepage %s gives %d: %s %s" % (" ".join(map(str, arguments)), status, out.strip(), errors))
        return out

    def attach(self, *some):
        """On a crowded machine a program may keep who takes it in for longer than an answer is waited for: then it is taken in later."""
        errors = self.cli("attach", *(program.pid for program in some))[2]
        for program in some:
            self.until(program, lambda process: process["state"] in ("settling", "merging"), "taken in: " + errors)

    def settle(self, *some):
        """Until nothing more can be merged in them now; each counts from the first moment on at which it was so."""
        self.attach(*some)
        for program in some:
            self.until(program, lambda process: process["settled"], "settled")

    def detach(self, *some):
        self.does("detach", *(program.pid for program in some))

    def detach_in_the_end(self, *some):
        """A program that forks all the time may have to be asked again: its children of this moment share its frames."""
        end = time.monotonic() + bound()
        for program in some:
            while True:
                status, _, errors = self.cli("detach", program.pid)
                if status == 0:
                    break
                need(time.monotonic() < end, errors)

    def of(self, program):
        for process in json.loads(self.does("status", "--json"))["processes"]:
            if process["pid"] == program.pid:
                return process
        raise Failed("the status knows nothing of %s %d" % (program.name, program.pid))

    def until(self, program, is_so, what):
        """Waits for what the status says of a program."""
        end = time.monotonic() + bound()
        while True:
            process = self.of(program)
            if is_so(process):
                return process
            need(time.monotonic() < end, lambda: "%s %d is not %s: %s, %d pages merged; %s; %s" % (
                program.name, program.pid, what, process["state"], process["pages_merged"], process["reason"], standing(program.pid)))
            time.sleep(0.5)

    def merged(self, program, pages):
        return self.until(program, lambda process: process["pages_merged"] >= pages, "merged in %d pages" % pages)["pages_merged"]

    def control(self, file, value=None):
        path = "%s/control/ksm/%s" % (self.folder, file)
        if value is None:
            return text_of(path).strip()
        with open(path, "w") as written:
            written.write(str(value))
        return None

    def stall_ms(self, *some):
        """The longest hold of any of these, as the daemon counts them."""
        return max(self.of(program)["stall_ns_max"] for program in some) // 1000000

    def kill(self):
        self.process.kill()
        self.ends()

    def kill_guardian(self):
        for thread in os.listdir("/proc/%d/task" % self.pid):
            for child in text_of("/proc/%d/task/%s/children" % (self.pid, thread)).split():
                if "samepage-guardian" in text_of("/proc/%s/cmdline" % child):
                    os.kill(int(child), 9)
                    return True
        return False

    def terminate(self):
        self.process.terminate()
        status = self.ends()
        need(status == 0, lambda: "the daemon ended with %d: %s" % (status, self.tail()))


class Trace:
    """What a process looked like before it was taken in, to be held against what it looks like when it has been given back."""

    def __init__(self, program):
        self.pid = program.pid
        self.before = self.now()

    def now(self):
        folder = "/proc/%d/" % self.pid
        smaps = looked_at(folder + "smaps")
        names = {line[73:].strip() for line in smaps.splitlines() if len(line) > 73 and "-" in line.split(" ", 1)[0]}
        watched = sum(1 for line in smaps.splitlines() if line.startswith("VmFlags:") and {"um", "uw", "ui"} & set(line.split()))
        shared = [line.split()[1] for line in looked_at(folder + "smaps_rollup").splitlines() if line.startswith("Pss_Shmem:")]
        descriptors = {}
        for name in os.listdir(folder + "fd"):
            try:
                descriptors[name] = os.readlink(folder + "fd/" + name)
            except OSError:
                pass
        return {"threads": sorted(os.listdir(folder + "task")), "descriptors": descriptors, "names": sorted(names), "watched areas": watched, "kB of shared memory": shared}

    def is_gone(self, but=()):
        now = self.now()
        different = ["%s: %s, were %s" % (what, now[what], self.before[what]) for what in now if now[what] != self.before[what] and what not in but]
        need(not different, "left in the process: %s" % "; ".join(different))
