using Samepage.Engine;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Reads pages of processes, and says what each is.</summary>
/// <remarks>One thread at a time. Several readers may read in one process at once.</remarks>
internal sealed class PageReader
{
    private const int Page = 4096, Most = 512;
    private readonly ulong[] _words = new ulong[Most];
    private readonly (int Start, int Length)[] _pieces = new (int, int)[Most];

    /// <inheritdoc cref="IMachine.Read"/>
    public void Read(LiveSpace space, PageRun range, Span<byte> content, Span<PageFact> facts)
    {
        int count = (int)range.Count;
        int known = space.Pagemap.ReadWords(range.Start.Value * Page, _words.AsSpan(0, count));
        for (int i = 0; i < count; i++)
        {
            facts[i] = i >= known || (_words[i] & Pagemap.Present) == 0 || (_words[i] & Pagemap.FilePage) != 0 ? PageFact.Absent
                : (_words[i] & Pagemap.Exclusive) != 0 ? PageFact.Own : PageFact.SharedAlready;
        }

        int pieces = 0;
        for (int i = 0; i < count; i++)
        {
            if (facts[i] != PageFact.Own)
                continue;
            if (pieces > 0 && _pieces[pieces - 1] is (int start, int length) && start + length == i * Page)
                _pieces[pieces - 1].Length += Page;
            else
                _pieces[pieces++] = (i * Page, Page);
        }

        RemoteMemory memory = new(space.Session.ExecutorThread);
        int copied = pieces == 0 ? 0 : memory.Read(range.Start.Value * Page, _pieces.AsSpan(0, pieces), content), read = copied;
        for (int i = 0; i < count; i++)
        {
            if (facts[i] != PageFact.Own)
                continue;
            // Behind the first that could not be read the kernel read none. Memory that its program cannot read itself is read so; what cannot be read so either is tried another time.
            if (read < Page)
            {
                int end = i + 1;
                while (end < count && facts[end] == PageFact.Own)
                    end++;
                read = memory.ForceRead((range.Start.Value + (ulong)i) * Page, content[(i * Page)..(end * Page)]) / Page * Page;
                copied += read;
                if (read == 0)
                    facts[i..end].Clear(); // PageFact.Absent
            }

            read -= facts[i] == PageFact.Own ? Page : 0;
        }

        // What was read by the number of a thread that has ended may be of anybody who has that number since.
        if (copied > 0 && space.Session.HasExecutorEnded)
            facts.Fill(PageFact.Unread);
    }
}
