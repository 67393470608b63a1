namespace Samepage.Demo;

/// <summary>What the demo's Python programs run. They know nothing of samepage.</summary>
/// <remarks>
/// A large bytearray lies in a mapping of its own, behind malloc's header of 16 bytes, in every interpreter alike: so the
/// same data make the same pages. The data come from a seed, so that a program can check each byte without a second copy.
/// Commands are lines on standard input; each is answered with one line.
/// </remarks>
internal static class DataSetScript
{
    /// <summary>Arguments: number of this program, MiB in common, MiB of its own.</summary>
    public const string Text = """
        import hashlib, random, signal, sys

        MIB, PAGE = 1 << 20, 4096
        number, common_mib, own_mib = map(int, sys.argv[1:4])
        written = False
        # Ctrl-C reaches every program on the terminal; the demo ends this one itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

        def blocks(seed, mib):
            generator = random.Random(seed)
            for _ in range(mib):
                yield bytearray(generator.getrandbits(8 * MIB).to_bytes(MIB, "little"))

        def load(seed, mib):
            data = bytearray(mib * MIB)
            view = memoryview(data)
            for i, block in enumerate(blocks(seed, mib)):
                view[i * MIB:(i + 1) * MIB] = block
            return view

        def change(view, start):
            # One byte in every page, at a place that differs from page to page; each program its own way.
            for page in range(len(view) // PAGE):
                at = page * PAGE + (start + page * 31) % PAGE
                view[at] ^= 0x50 + number

        def difference():
            for view, seed, mib, changed in ((common, 1, common_mib, written), (own, 1000 + number, own_mib, False)):
                for i, block in enumerate(blocks(seed, mib)):
                    if changed:
                        change(memoryview(block), i)
                    if view[i * MIB:(i + 1) * MIB] != block:
                        return "differs in MiB %d of the data with seed %d" % (i, seed)
            return ""

        def digest():
            h = hashlib.sha256(common)
            h.update(own)
            return h.hexdigest()

        common, own = load(1, common_mib), load(1000 + number, own_mib)
        print("loaded", flush=True)
        for line in sys.stdin:
            command = line.strip()
            if command == "digest":
                print(digest(), flush=True)
            elif command == "check":
                print(difference() or "right", flush=True)
            elif command == "write":
                for i in range(common_mib):
                    change(common[i * MIB:(i + 1) * MIB], i)
                written = True
                print(difference() or "right", flush=True)
            elif command == "quit":
                break
        """;
}
