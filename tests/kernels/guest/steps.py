"""What a kernel is put through. Each step begins with a daemon and programs of its own, returns what is to be said of it, and raises where something is wrong."""
import json
import os
import re
import shutil
import subprocess
import time
from types import SimpleNamespace

import settings
from programs import SAMEPAGE, TARGETS, Daemon, Program, Skipped, Trace, bound, looked_at, need, processor_seconds, programs, samepage, text_of

STEPS = {}
COMMON = 1536  # pages that two of `common 8` have in common


def step(name=None, sizes="small full", seconds=None):
    """Names a step; `sizes` are the runs that it belongs to, `seconds` what it may take if that is more than usual."""
    def take(act):
        called = name or act.__name__
        STEPS[called] = SimpleNamespace(name=called, act=act, sizes=sizes.split(), seconds=seconds)
        return act
    return take


def of_size(size):
    return [one for one in STEPS.values() if size in one.sizes]


def clean():
    """What steps and a daemon that was killed have left, in their folder alone."""
    for line in text_of("/proc/swaps").splitlines()[1:]:
        subprocess.call(["/bin/swapoff", line.split()[0]])
    for line in text_of("/proc/mounts").splitlines():
        if line.split()[1].startswith(settings.FOLDER + "/"):
            subprocess.call(["/bin/umount", "-l", line.split()[1]])
    for entry in os.scandir(settings.FOLDER):
        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def both_verify(*some):
    for program in some:
        program.does("verify")


@step()
def doctor():
    status, out, errors = samepage("doctor", "--json")
    checks = json.loads(out)["checks"]
    # Whether a daemon runs is one of its questions, and none does.
    unwell = ["%(name)s %(verdict)s: %(found)s" % check for check in checks if check["verdict"] != "ok" and check["name"] != "daemon"]
    need(status == 0, lambda: "it gives %d: %s %s" % (status, "; ".join(unwell), errors))
    return "%d checks; %s" % (len(checks), "; ".join(unwell) or "all ok")


@step(sizes="old")
def refusal():
    """A kernel that cannot: everybody says so, nobody pretends to serve."""
    status, out, _ = samepage("doctor", "--json")
    failures = [check for check in json.loads(out)["checks"] if check["verdict"] == "failure"]
    need(status == 3 and failures, lambda: "doctor gives %d: %s" % (status, out))
    need(all(check["remedy"] for check in failures), lambda: "doctor has no remedy for one of %s" % failures)
    # One that serves would go on for ever.
    try:
        status, out, errors = samepage("daemon", "--no-rules", seconds=60 * settings.patience)
    except Exception as served:
        need(False, "the daemon serves: %s" % str(served)[:200])
    need(status == 3 and "ready" not in out.split(), lambda: "the daemon gives %d: %s %s" % (status, out, errors))
    return "%s: %s" % (", ".join(check["name"] for check in failures), errors)


@step(sizes="old")
def estimate():
    one, other = programs(2, "common", 8)
    status, out, errors = samepage("estimate", "--json", one.pid, other.pid)
    need(status != 0 or re.search(r'"resident[a-z_]*": [1-9]', out), lambda: "it read nothing, and says so to nobody: %s" % out)
    return "gives %d %s" % (status, errors)


@step()
def merge():
    with Daemon() as daemon:
        two = programs(2, "common", 8, "zeros=256")
        daemon.settle(*two)
        pages = [daemon.merged(program, COMMON) for program in two]
        zeros = daemon.of(two[0])["zero_pages"]
        need(zeros >= 256, "of 256 pages of zeros %d are the kernel's" % zeros)
        both_verify(*two)
        sharing = daemon.control("pages_sharing")
        need(sharing.isdigit() and int(sharing) >= COMMON, "the control file says %s" % (sharing or "nothing"))
        return "%d and %d of %d pages merged, %d of 256 zero pages; hold %d ms" % (*pages, COMMON, zeros, daemon.stall_ms(*two))


@step()
def verify():
    """Every byte, while everything is broken up and merged again, and again."""
    with Daemon() as daemon:
        two = programs(2, "common", 8, "run=16")
        daemon.settle(*two)
        for _ in range(3):
            both_verify(*two)
            daemon.control("run", 2)
            both_verify(*two)
            daemon.control("run", 1)
            daemon.merged(two[0], COMMON)
        both_verify(*two)
        return "4 times merged, 3 times broken up"


@step()
def write():
    with Daemon() as daemon:
        daemon.control("smart_scan", 0)
        two = programs(2, "common", 8, "run=16")
        daemon.settle(*two)
        two[0].does("write")
        two[1].does("verify")
        two[0].does("verify", "again")
        daemon.merged(two[0], COMMON)
        two[1].does("poke")
        both_verify(*two)
        return "%d pages written back" % daemon.of(two[0])["cow_breaks"]


@step()
def detach():
    with Daemon() as daemon:
        two = programs(2, "common", 8, "run=16")
        both_verify(*two)
        before = [Trace(program) for program in two]
        daemon.settle(*two)
        daemon.merged(two[0], COMMON)
        two[0].does("write")
        daemon.detach(*two)
        for trace in before:
            trace.is_gone()
        both_verify(*two)
        two[1].does("write")
        return "no trace is left"


COUNTS = re.compile(r"ops (?P<ops>\d+) bad (?P<bad>\d+) refused \d+ intruded (?P<intruded>\d+) stall (?P<stall>\d+)")


def judged(storm, line):
    """What a storm says of itself; answers the longest time for which it was not let run, ms."""
    found = COUNTS.search(line)
    need(found and found["bad"] == "0" and found["intruded"] == "0" and found["ops"] != "0", lambda: "storm %d: %s; it said %s" % (storm.pid, line, storm.tail()))
    return int(found["stall"]) // 1000


def storms():
    return [Program("storm", "siege", 0, 2, seed, environment={"STORM_FILE": "/disk/direct-%d" % seed} if settings.disk else {}) for seed in (1, 2)]


def end_storms(*some):
    for storm in some:
        storm.close_input()
        judged(storm, storm.line())


@step(seconds=1200)
def siege():
    """Programs that do everything at once to their memory, and check it."""
    with Daemon() as daemon:
        two = storms()
        daemon.control("smart_scan", 0)
        daemon.attach(*two)
        most, end = 0, time.monotonic() + settings.siege
        while time.monotonic() < end or (most == 0 and time.monotonic() < end + bound()):
            most = max(most, daemon.of(two[0])["pages_merged"])
            time.sleep(1)
        need(most > 0, "nothing was merged")
        breaks = daemon.of(two[0])["cow_breaks"]
        stall = [judged(storm, storm.ask("report")) for storm in two]
        daemon.detach_in_the_end(*two)
        end_storms(*two)
        return "%d s, %d pages merged at a time at most, %d written back; longest stall %d ms" % (settings.siege, most, breaks, max(stall))


@step(seconds=7200)
def kills():
    """Daemons are killed while they start, take in, merge and give back, some after their guardian; the next one takes over what is left."""
    folder = settings.FOLDER + "/doomed"
    two, quiet = storms(), programs(2, "common", 8, "run=8")
    both_verify(*quiet)
    before = [Trace(program) for program in quiet]
    everyone = [*two, *quiet]
    pids = [str(program.pid) for program in everyone]

    def ask(what):
        return subprocess.Popen([SAMEPAGE, what, *pids], env={**os.environ, "SAMEPAGE_RUN_DIR": folder}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    while_merged, orphaned, stall, random = 0, 0, 0, 12345
    for number in range(settings.kills):
        random = (random * 1103515245 + 12345) % (1 << 31)
        moment = (random >> 8) % 1000 / 1000
        aim = ("merging", "taking in", "giving back", "starting", "merging")[number % 5]
        doomed, asked = Daemon(folder, wait=aim != "starting"), None
        if aim == "starting":
            time.sleep(3 * moment)
        else:
            doomed.control("smart_scan", 0)
            if aim == "taking in":
                asked = ask("attach")
            else:
                doomed.attach(*everyone)
                doomed.merged(quiet[0], 256)
                while_merged += 1
            time.sleep(4 * moment)
            if aim == "giving back":
                asked = ask("detach")
                time.sleep(2 * moment)
        orphaned += number % 4 == 3 and doomed.kill_guardian()
        doomed.kill()
        if asked:
            asked.wait(bound())
        both_verify(*quiet)
        stall = max(stall, *(judged(storm, storm.ask("report")) for storm in two))
    with Daemon(folder) as last:
        last.control("smart_scan", 0)
        last.attach(*everyone)
        last.merged(quiet[0], 1000)
        last.detach_in_the_end(*everyone)
        for trace in before:
            trace.is_gone()
        both_verify(*quiet)
        quiet[0].does("write")
        quiet[1].does("verify")
        end_storms(*two)
    return "%d killed, %d of them while pages were merged, %d after their guardian; longest stall %d ms" % (settings.kills, while_merged, orphaned, stall)


def needs_io_uring():
    if text_of("/proc/sys/kernel/io_uring_disabled").strip() not in ("0", ""):
        raise Skipped("io_uring is disabled here")


def registered_buffers(user):
    needs_io_uring()
    refused = 0
    for kind in "fixed", "plain":
        # Under way before anything is merged.
        with Daemon() as daemon:
            two = programs(2, "iopin", user=user)
            two[0].does(kind)
            daemon.settle(*two)
            daemon.merged(two[0], 500)
            two[0].does("complete")
            both_verify(*two)
        for program in two:
            program.kill()
        # Begun in merged memory, and still under way when it is to be given back.
        with Daemon() as daemon:
            two = programs(2, "iopin", user=user)
            daemon.settle(*two)
            daemon.merged(two[0], 500)
            two[0].does(kind)
            status, _, errors = daemon.cli("detach", two[0].pid)
            need(status == 0 or status == 1 and errors, lambda: "detach gives %d: %s" % (status, errors))
            refused += status == 1
            two[0].does("complete")
            both_verify(*two)
            if kind == "fixed":
                two[0].does("unpin")
            daemon.detach_in_the_end(*two)
            both_verify(*two)
        for program in two:
            program.kill()
    return "%d of 2 refused to be given back while a read was under way" % refused


@step("pins-root")
def pins_as_root():
    return registered_buffers(None)


@step("pins-user")
def pins_as_user():
    return registered_buffers(1000)


@step("direct")
def direct_reads():
    if not settings.disk:
        raise Skipped("no disk: the kernel has no driver for it")
    with Daemon() as daemon:
        reader, other = Program("iopin", "/disk/iopin"), Program("iopin")
        daemon.attach(reader, other)
        for _ in range(2):
            reader.does("direct")
        other.does("verify")
        return reader.tail()


def kib_in_huge_pages(program):
    return int(re.search(r"AnonHugePages: +(\d+)", text_of("/proc/%d/smaps_rollup" % program.pid))[1])


@step()
def huge():
    """Huge pages that ask for merging, as those of virtual machines do."""
    with Daemon() as daemon:
        two = programs(2, "common", 16, "guest")
        before, first = [Trace(program) for program in two], kib_in_huge_pages(two[0])
        need(first >= 8192, "only %d kB are in huge pages" % first)
        daemon.settle(*two)
        pages = daemon.of(two[0])["pages_merged"]
        both_verify(*two)
        two[0].does("poke")
        both_verify(*two)
        daemon.detach(*two)
        for trace in before:
            trace.is_gone()
        both_verify(*two)
        two[1].does("write")
        return "%d of %d pages merged; %d kB in huge pages before, %d behind" % (pages, 2 * COMMON, first, kib_in_huge_pages(two[1]))


def held_part(holder, form):
    """A part of each huge page is held by somebody. Nobody waits for that: not the program, not who looks at it, not others."""
    if holder == "direct":
        if not settings.slow:
            raise Skipped("no disk: the kernel has no driver for it")
        holder = "direct=" + settings.slow
    if holder != "none":
        needs_io_uring()
    with Daemon() as daemon:
        one, other = Program("hugepin", 8, holder, *form), Program("hugepin", 8, "none", *form)
        need(one.ready == other.ready == "ready 8192", "not all is in huge pages, %s and %s kB: nothing would be shown" % (one.ready, other.ready))
        before = Trace(one)
        daemon.attach(one, other)
        strangers = programs(2, "common", 4)
        daemon.settle(*strangers)
        daemon.merged(strangers[0], COMMON // 2)
        one.does("protect")
        daemon.settle(one, other)
        merged = daemon.of(one)["pages_merged"]
        used = processor_seconds(one.pid)
        time.sleep(10)
        used = processor_seconds(one.pid) - used
        need(used < 5, "%.1f s of processor time in 10 s, of a program that is at rest" % used)
        one.does("verify", "through", "fork", "protect")
        other.does("verify")
        stall = daemon.stall_ms(one, other, *strangers)
        status, _, errors = daemon.cli("detach", one.pid)
        need(status == 0 or status == 1 and errors, lambda: "detach gives %d: %s" % (status, errors))
        one.does("through", "unpin", "verify")
        daemon.detach_in_the_end(one, other)
        both_verify(one, other)
        before.is_gone(but=("descriptors", "threads", "names") if holder != "none" else ())
        return "%d of 2048 pages merged; %.1f s of processor time in 10 s at rest; hold %d ms%s" % (merged, used, stall, "; " + errors if status else "")


# In a short run each holder at least once, whole huge pages of who asked for merging as well as split ones of who did not.
SHORT = {"none-unadvised-split", "uring-advised-whole", "uring-unadvised-split", "vmsplice-advised-whole", "direct-unadvised-split"}
for each in "none", "uring", "vmsplice", "direct":
    for advised in "advised", "unadvised":
        for whole in "whole", "split":
            called = "-".join([each, advised, whole])
            words = [word for word, wanted in (("advise", advised == "advised"), ("split", whole == "split")) if wanted]
            step("hugepin-" + called, "small full" if called in SHORT else "full", 1200)(lambda holder=each, form=tuple(words): held_part(holder, form))


@step()
def swap():
    disk = settings.swap
    if os.path.exists("/sys/block/zram0"):
        with open("/sys/block/zram0/disksize", "w") as size:
            size.write("256M")
        disk = "/dev/zram0"
    if not disk:
        raise Skipped("nothing to swap to: the kernel has no driver for it")
    for command in ["/bin/mkswap", disk], ["/bin/swapon", disk]:
        need(subprocess.call(command, stdout=subprocess.DEVNULL) == 0, "%s failed" % command)
    with Daemon() as daemon:
        two = programs(2, "common", 16)
        two[0].does("pageout")
        out = int(re.search(r"VmSwap:\s+(\d+)", text_of("/proc/%d/status" % two[0].pid))[1])
        need(out >= 15 * 1024, "%d kB in swap" % out)
        daemon.settle(*two)
        two[0].does("verify")
        for program in two:
            daemon.merged(program, 2 * COMMON - 100)
        for program in two:
            program.does("pageout")
        both_verify(*two)
        two[0].does("pageout", "write")
        two[1].does("verify", "pageout")
        daemon.detach(*two)
        both_verify(*two)
        two[1].does("write")
    return "%d kB out to %s" % (out, disk)


@step()
def forks():
    with Daemon() as daemon:
        for commands in (
                ["child verify", "child write", "verify", "write", "child verify"],
                ["child discard", "verify", "child write", "discard", "child verify"],
                ["detach", "child verify", "child discard", "verify", "child write"]):
            two = programs(2, "forker")
            daemon.settle(*two)
            daemon.merged(two[0], 3000)
            need(two[0].ask("fork").isdigit(), "no child")
            for command in commands:
                if command == "detach":
                    daemon.detach_in_the_end(*two)
                else:
                    two[0].does(command)
            two[1].does("verify")
            for program in two:
                program.kill()
        return "children and parents write and discard, before and after they are given back"


def held_out(program):
    """All of it is right, and nobody was let through who tries to write what must not be written."""
    program.does("verify", "child")
    said = program.ask("tries")
    need(said.endswith(" through 0 wrong 0"), said)
    return said


@step()
def protection():
    said = []
    for kind in ("readonly", "noaccess", "code"):
        with Daemon() as daemon:
            two = programs(2, "barrier", kind, 4)
            before = [Trace(program) for program in two]
            daemon.settle(*two)
            daemon.merged(two[0], 1024)
            said.append(kind + " " + held_out(two[0]))
            daemon.detach(*two)
            # Its libraries are files in memory here, of which each process that uses them takes its share.
            for trace in before:
                trace.is_gone(but=("kB of shared memory",))
            held_out(two[0])
    return "; ".join(said)


def areas(program):
    """The mappings of its memory, as maps shows them, but for files."""
    start, end = (int(address, 16) for address in program.ask("address").split())
    lines = (line.split() for line in looked_at("/proc/%d/maps" % program.pid).splitlines())
    return [(one[0], one[1], one[5] if len(one) > 5 else "") for one in lines if start <= int(one[0].split("-")[0], 16) < end]


@step()
def names():
    """What of it is frames has the name, too; and so has the whole, in one piece, once it is given back, also by a recovery, which knows nothing but what the kernel shows."""
    if subprocess.check_output([TARGETS + "kinds", "can", "name"]).split() != [b"can", b"name"]:
        raise Skipped("the kernel has no names for memory (CONFIG_ANON_VMA_NAME)")
    said = []
    for killed in (False, True):
        daemon = Daemon()
        two = programs(2, "kinds", "name")
        before = areas(two[0])
        need([name for _, _, name in before] == ["[anon:mine]"], str(before))
        daemon.settle(*two)
        daemon.merged(two[0], 500)
        during = areas(two[0])
        called = {name for _, _, name in during}
        need(called == {"[anon:mine]", "[anon_shmem:mine]"}, str(called))
        two[0].does("fork", "verify")
        said.append("%d mappings" % len(during))
        if killed:
            daemon.kill()
            end = time.monotonic() + bound()
            while areas(two[0]) != before and time.monotonic() < end:
                time.sleep(0.5)
        else:
            daemon.detach(*two)
            daemon.terminate()
        need(areas(two[0]) == before, "%s, was %s" % (areas(two[0]), before))
        both_verify(*two)
    return "; ".join(said)


@step()
def registers():
    if " avx " not in text_of("/proc/cpuinfo"):
        raise Skipped("the processor has no AVX")
    with Daemon() as daemon:
        program = Program("vectors")
        daemon.attach(program)
        daemon.merged(program, 500)
        time.sleep(10)
        said = program.ask("report")
        need(said.endswith(" bad 0") and not said.startswith("checks 0 "), said)
        return "%s; %d holds" % (said, daemon.of(program)["stops"])


@step()
def remote():
    with Daemon() as daemon:
        two = programs(2, "remote")
        daemon.attach(*two)
        daemon.merged(two[0], 1000)
        time.sleep(10)
        said = [program.ask("report") for program in two for _ in range(2)]
        need(all(line.endswith(" bad 0") for line in said), "; ".join(said))
        return "; ".join(said[1::2])
