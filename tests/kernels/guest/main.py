"""The first process of a guest of tests/kernels/run. It runs the steps that the kernel's command line names, each in a process of its own, and says on the second serial port what becomes
of each. One that takes too long is told where everybody stands; what a step leaves behind is killed; and where something cannot be killed the machine ends, for the steps that are left
want a sound one.

    booted VERSION
    begin STEP
    end STEP ok|failed|skipped SECONDS TEXT
    over

    python3 main.py --list small|full|old     the steps, one a line, without running any: what the host asks
"""
import os
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import settings
import steps
from programs import Failed, Skipped, everybody, standing, text_of

PORT = "/dev/ttyS1"
LONG = 600  # seconds for a step, unless it says that it needs more
TO_END = 60


def say(line):
    with open(PORT, "w") as port:
        port.write(line + "\n")


def note(line):
    """Into the kernel's log, so that what it complains of stands between a step's beginning and its end."""
    with open("/dev/kmsg", "w") as log:
        log.write("samepage: " + line[:800] + "\n")


def trigger(letter):
    with open("/proc/sysrq-trigger", "w") as file:
        file.write(letter)


def end_machine():
    trigger("s")
    trigger("b")
    while True:
        time.sleep(1)


def reap():
    """Children that ended, others' orphans among them."""
    ended = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return ended
            ended[pid] = status
    except ChildProcessError:
        return ended


def run(step, outcome):
    """In a process of its own: the end of the pipe has one line, what became of it."""
    try:
        said = "ok " + (step.act() or "")
    except Skipped as skipped:
        said = "skipped " + str(skipped)
    except Failed as failed:
        said = "failed " + str(failed)
        where = traceback.extract_tb(failed.__traceback__)
        print(said, " <- ".join("%s:%d" % (frame.name, frame.lineno) for frame in reversed(where)), sep="\n", flush=True)
    except BaseException as unexpected:
        traceback.print_exc()
        said = "failed %s: %s" % (type(unexpected).__name__, unexpected)
    os.write(outcome, said.replace("\n", "; ").replace("\r", "").encode()[:3000])
    os._exit(0)


def kill_all():
    """Whatever a step has left. Nobody can kill who waits in the kernel for what never comes."""
    end = time.monotonic() + TO_END * settings.patience
    while True:
        left = [pid for pid in everybody() if pid != 1]
        reap()
        if not left:
            return ""
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > end:
            return "; ".join(standing(pid) for pid in left)
        time.sleep(0.1)


def perform(step):
    began = time.monotonic()
    note("begin " + step.name)
    say("begin " + step.name)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        run(step, write)
    os.close(write)
    bound = (step.seconds or LONG) * settings.patience
    while child not in reap() and time.monotonic() - began < bound:
        time.sleep(0.05)
    seconds = time.monotonic() - began
    if seconds >= bound:
        outcome = "failed not at its end after %d seconds" % bound
        for pid in everybody():
            print(standing(pid), flush=True)
    else:
        outcome = os.read(read, 4096).decode() or "failed its process ended without a word"
    os.close(read)
    if outcome.startswith("failed"):
        trigger("w")  # where everybody stands who waits
    left = kill_all()
    if left:
        print(left, flush=True)
        outcome = "failed %s; and something cannot be killed: %s" % (outcome.split(" ", 1)[1], left)
    note("end %s %s" % (step.name, outcome))
    verdict, _, text = outcome.partition(" ")
    say("end %s %s %.0f %s" % (step.name, verdict, seconds, text))
    if left:
        time.sleep(2)  # the log is read
        end_machine()
    steps.clean()


def main():
    if len(sys.argv) > 2 and sys.argv[1] == "--list":
        for step in steps.of_size(sys.argv[2]):
            print(step.name)
        return
    # It kills everybody and ends the machine: only as the first process of the first file system of a machine that was started for it.
    if os.getpid() != 1 or not text_of("/proc/mounts").startswith("rootfs / rootfs") or "samepage.steps=" not in text_of("/proc/cmdline"):
        sys.exit("main.py: this is no guest of tests/kernels/run")
    # A guest whose processors are emulated on a crowded machine is slow, not stuck.
    os.system("stty -F %s raw; sysctl -q -w kernel.watchdog_thresh=60 kernel.core_pattern=/tmp/core" % PORT)
    settings.read("/proc/cmdline")
    settings.find_disks()
    say("booted " + os.uname().release)
    for name in settings.steps:
        perform(steps.STEPS[name])
    say("over")
    time.sleep(1)
    end_machine()


if __name__ == "__main__":
    main()
