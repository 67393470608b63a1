using System.Collections.Concurrent;
using System.Diagnostics;
using System.IO.Hashing;
using System.Runtime.CompilerServices;
using Samepage.Estimate.Figures;
using Samepage.Estimate.Sources;
using Samepage.Linux.ProcFs;

namespace Samepage.Estimate.Census;

/// <summary>Reads the sources' pages, as often as asked, and counts them.</summary>
/// <remarks>One thread lists what there is, a little ahead of several that read and digest it: what is listed and not read yet is some batches, whatever the
/// size of the sources. Use it once.</remarks>
public sealed class CensusRun : IDisposable
{
    internal static readonly ulong ZeroDigest = XxHash3.HashToUInt64(new byte[PageSource.PageBytes]);

    private readonly PageSource[] _sources;
    private readonly string[] _domainNames;
    private readonly int[] _domains;
    private readonly CensusOptions _options;
    private readonly PageTable _table = new();
    private HeavyContents _heavy = new();
    private readonly ulong _digestsKept;
    private readonly List<SamplePoint> _points = [];
    private Ledger _ledger = new();
    private PageTable? _newcomers;
    private long _bytesRead;
    private volatile bool _framesHidden;

    /// <param name="sources">What to read: at most 65,536. They are put in the order of their domains and pids.</param>
    /// <param name="options">How.</param>
    public CensusRun(IEnumerable<PageSource> sources, CensusOptions options)
    {
        _sources = [.. sources.OrderBy(source => source.Description.Domain, StringComparer.Ordinal).ThenBy(source => source.Description.Pid)];
        ArgumentOutOfRangeException.ThrowIfGreaterThan(_sources.Length, PageRecord.SourcesMax);
        _options = options;
        _domainNames = [.. _sources.Select(source => source.Description.Domain).Distinct()];
        _domains = [.. _sources.Select(source => Array.IndexOf(_domainNames, source.Description.Domain))];
        for (int i = 0; i < _sources.Length; i++)
            _sources[i].Index = i;
        _digestsKept = ulong.MaxValue / (ulong)options.OneOf;
    }

    /// <summary>Is told now and then how far it has come, on any thread.</summary>
    public Action<CensusProgress>? OnProgress { get; init; }

    /// <summary>Is given the pages whose content was read, after the first sample; valid during the call.</summary>
    public Action<IEnumerable<Fingerprint>>? OnFingerprints { get; init; }

    /// <summary>Reads and counts.</summary>
    /// <param name="cancellation">Ends the reading early: what is known so far is counted, and marked as partial.</param>
    public EstimateReport Run(CancellationToken cancellation)
    {
        long began = Stopwatch.GetTimestamp();
        TimeSpan reading = TimeSpan.Zero;
        ContentCount count = null!;
        SampledSaving saving = null!;
        for (int sample = 1; sample == 1 || (sample <= _options.Samples && !cancellation.IsCancellationRequested); sample++)
        {
            if (sample > 1 && cancellation.WaitHandle.WaitOne(_options.Interval))
                break;
            TimeSpan at = Stopwatch.GetElapsedTime(began);
            ReadAll(sample, cancellation);
            reading += Stopwatch.GetElapsedTime(began) - at;
            _table.SortByContent();
            if (sample == 1)
                OnFingerprints?.Invoke(Fingerprints());
            saving = new SampledSaving(_domainNames.Length, _options.OneOf, _heavy.Take());
            count = new ContentCount(_sources, _domains, _ledger, ZeroDigest) { OnContent = saving.Add };
            count.Count(_table);
            PageFigures sum = Sum(_ledger.Cells.Select(cell => cell.Figures));
            _points.Add(new SamplePoint(at.TotalSeconds, sum.Zero + saving.All.Pages, saving.StableOf(sum)));
        }

        MergePreview preview = new(_sources, _domains, ZeroDigest);
        long[] mappings = [.. _sources.Select(source => source.Mappings)];
        int limit = MappingLimit.Read();
        if (_options.OneOf == 1)
            preview.Look(_table, [.. mappings.Select(used => Math.Max(0, MappingLimit.ForMerging(limit) - used))]);
        Effort effort = new(reading.TotalSeconds, _bytesRead, reading > TimeSpan.Zero ? _bytesRead / reading.TotalSeconds : 0, _options.Threads, _table.Bytes);
        return new ReportWriter(_sources, _domainNames, _domains, _ledger, _options).Write(count, saving, preview, limit, _points, effort, cancellation.IsCancellationRequested, _framesHidden);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _table.Dispose();
        foreach (IDisposable source in _sources.OfType<IDisposable>())
            source.Dispose();
    }

    /// <summary>Adds figures up.</summary>
    internal static PageFigures Sum(IEnumerable<PageFigures> figures)
    {
        PageFigures sum = new();
        foreach (PageFigures one in figures)
            sum.Add(one);
        return sum;
    }

    private void ReadAll(int sample, CancellationToken cancellation)
    {
        _ledger = new Ledger();
        _heavy = new HeavyContents(_options.HeavyCapacity);
        if (sample > 1)
        {
            _table.SortByPlace();
            _newcomers = new PageTable();
        }

        long expected = Math.Max(1, _sources.Sum(source => source.ExpectedPages));
        using ThreadLocal<Reader> readers = new(() => new Reader(this));
        ParallelOptions parallel = new() { MaxDegreeOfParallelism = _options.Threads };
        long told = 0;
        Parallel.ForEach(Partitioner.Create(ListAll(cancellation), EnumerablePartitionerOptions.NoBuffering), parallel, batch =>
        {
            readers.Value!.Read(batch);
            long now = Stopwatch.GetTimestamp(), last = Volatile.Read(ref told);
            if (OnProgress is null || Stopwatch.GetElapsedTime(last, now).TotalSeconds < 0.1 || Interlocked.CompareExchange(ref told, now, last) != last)
                return;
            OnProgress(new CensusProgress(sample, _ledger.PagesListed, Math.Max(expected, _ledger.PagesListed), Volatile.Read(ref _bytesRead)));
        });
        if (_newcomers is not null)
            Settle(met: !cancellation.IsCancellationRequested);
        foreach (PageSource source in _sources.Where(source => source.IsGone))
            _ledger.Drop(source.Index);
        _table.Keep((ref PageRecord record) => !_sources[record.Source].IsGone);
    }

    private IEnumerable<Fingerprint> Fingerprints()
    {
        for (long i = 0; i < _table.Count; i++)
        {
            PageRecord record = _table[i];
            if (!record.Has(PageFlags.Frame))
                yield return new Fingerprint(record.Digest, _sources[record.Source].Description, record.Page, record.Kind, record.Digest == ZeroDigest, record.Has(PageFlags.Reach), record.Has(PageFlags.Huge));
        }
    }

    private IEnumerable<Batch> ListAll(CancellationToken cancellation)
    {
        foreach (PageSource source in _sources)
        {
            foreach (Batch batch in source.List(_ledger))
            {
                yield return batch;
                if (cancellation.IsCancellationRequested)
                    yield break;
            }
        }
    }

    /// <summary>After a later sample: pages that were not met any more go, those that are new come in.</summary>
    /// <param name="met">The sample is whole, so that what was not met is gone.</param>
    private void Settle(bool met)
    {
        if (met)
            _table.Keep((ref PageRecord record) => record.Has(PageFlags.Met));
        for (long i = 0; i < _newcomers!.Count; i++)
            _table.Add([_newcomers[i]]);
        for (long i = 0; i < _table.Count; i++)
            _table[i] = _table[i].With(_table[i].Flags & ~PageFlags.Met);
        _newcomers.Dispose();
        _newcomers = null;
    }

    /// <summary>What one thread reads with.</summary>
    private sealed class Reader(CensusRun census)
    {
        private byte[] _content = GC.AllocateUninitializedArray<byte>(Batch.PagesMax * PageSource.PageBytes);
        private PageFound[] _pages = new PageFound[Batch.PagesMax];
        private readonly PageRecord[] _records = new PageRecord[Batch.PagesMax];
        private readonly ulong[] _digests = new ulong[Batch.PagesMax];

        public void Read(Batch batch)
        {
            _pages.AsSpan(0, batch.Pages).Clear();
            if (!batch.Source.TryRead(batch, _pages, _content))
            {
                (_content, _pages) = (GC.AllocateUninitializedArray<byte>(_content.Length), new PageFound[_pages.Length]);
                _pages.AsSpan().Fill(new PageFound(PageFind.Unread, 0));
            }

            ReadOnlySpan<PageFound> pages = _pages.AsSpan(0, batch.Pages);
            int at = 0, records = 0, digests = 0;
            long read = 0;
            foreach (Piece piece in batch.Pieces)
            {
                PageFigures found = new();
                for (int i = 0; i < piece.Count; i++, at++)
                {
                    ulong page = piece.Start + (ulong)i;
                    switch (pages[at].Find)
                    {
                        case PageFind.Own:
                            read++;
                            ulong digest = Digest(_content.AsSpan(at * PageSource.PageBytes, PageSource.PageBytes));
                            if (census._options.OneOf > 1 && digest != ZeroDigest && (piece.Flags & PageFlags.Reach) != 0)
                                _digests[digests++] = digest;
                            if (digest <= census._digestsKept || digest == ZeroDigest)
                                _records[records++] = new PageRecord(digest, batch.Source.Index, page, piece.Kind, piece.Flags);
                            break;
                        case PageFind.Shared:
                            found.Shared++;
                            census._framesHidden |= pages[at].Frame == 0;
                            ulong key = PageRecord.Key(pages[at].Frame);
                            if (pages[at].Frame != 0 && key <= census._digestsKept)
                                _records[records++] = new PageRecord(key, batch.Source.Index, page, piece.Kind, PageFlags.Frame);
                            break;
                        case PageFind.Unread:
                            found.Unread++;
                            break;
                        default:
                            found.Resident--; // It was listed, and is gone.
                            break;
                    }
                }

                if (found != new PageFigures())
                    census._ledger.Enter(batch.Source.Index, piece.Kind, found);
            }

            Interlocked.Add(ref census._bytesRead, read * PageSource.PageBytes);
            if (digests > 0)
                census._heavy.Add(census._domains[batch.Source.Index], _digests.AsSpan(0, digests));
            Enter(_records.AsSpan(0, records));
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static ulong Digest(ReadOnlySpan<byte> content)
        {
            ulong digest = XxHash3.HashToUInt64(content);
            return digest != ZeroDigest || !content.ContainsAnyExcept((byte)0) ? digest : ~digest;
        }

        /// <summary>In a later sample pages are looked up among those of the first, which are sorted by place; threads look at different pages.</summary>
        private void Enter(Span<PageRecord> records)
        {
            if (census._newcomers is null)
            {
                census._table.Add(records);
                return;
            }

            int fresh = 0;
            long at = 0;
            ulong expected = 0;
            foreach (PageRecord record in records)
            {
                if (at == 0 || record.Place != expected)
                    at = census._table.Find(PageRecord.TagOf(record.Source, record.Page));
                expected = record.Place + 1;
                if (at < census._table.Count && census._table[at].Place == record.Place)
                {
                    ref PageRecord known = ref census._table[at++];
                    PageFlags changed = known.Digest == record.Digest ? known.Flags & PageFlags.Changed : PageFlags.Changed;
                    known = record.With(record.Flags | changed | PageFlags.Met);
                }
                else
                {
                    records[fresh++] = record.With(record.Flags | PageFlags.Changed | PageFlags.Met);
                }
            }

            census._newcomers.Add(records[..fresh]);
        }
    }
}
