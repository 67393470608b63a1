using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent;

/// <summary>The part of the agent's range that we map too: the words that both use, the operations, the signal frames. See <see cref="AgentLayout"/>.</summary>
/// <remarks>
/// <para>It belongs to the program as much as to us, so what it says is looked at once, and believed about that program only. But it cannot make us wait, which its other memory
/// can: see <see cref="SharedMemory"/>.</para>
/// <para>Any thread.</para>
/// </remarks>
internal sealed class AgentMemory : IDisposable
{
    private const string NamePrefix = "samepage-agent-", MappedPrefix = "/memfd:" + NamePrefix;
    private readonly SharedMemory _memory;

    private AgentMemory(SharedMemory memory) => _memory = memory;

    /// <summary>What is handed to the agent.</summary>
    public FileDescriptor File => _memory.File;

    /// <summary>Makes it for a new agent.</summary>
    /// <param name="cookie">See <see cref="AgentPlace"/>.</param>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static AgentMemory Create(ulong cookie)
    {
        SharedMemory memory = SharedMemory.Create(string.Create(CultureInfo.InvariantCulture, $"{NamePrefix}{Environment.ProcessId}"), AgentLayout.SharedBytes);
        AgentMemory made = new(memory);
        // The first page has memory from here on: the agent must not find that there is none.
        if (made.WriteWord(SharedWord.Cookie, cookie))
            return made;
        made.Dispose();
        throw new SyscallException("process_vm_writev", "a page of shared memory", Errno.ENOMEM);
    }

    /// <summary>Maps that of an agent which another daemon has brought.</summary>
    /// <param name="place">Where the agent lies.</param>
    /// <param name="memory">Its memory.</param>
    /// <param name="why">Why there is none: the agent has not come so far, or the program has put something else there.</param>
    /// <remarks>It is found by the mapping, <c>/proc/PID/map_files</c>, by way of a thread that lives: the first may have ended. This may wait for as long as the program likes.</remarks>
    public static bool TryFind(AgentPlace place, out AgentMemory? memory, out string why)
    {
        (memory, why) = (null, "no such process");
        ulong start = place.BaseAddress + AgentLayout.SharedOffset;
        List<int> threads = [];
        _ = Threads.TryList(place.Pid, threads);
        foreach (int tid in threads)
        {
            if (ProcessStatus.TryRead($"/proc/{place.Pid}/task/{tid}/status") is not { HasMemory: true })
                continue;
            if (!SharedMemory.TryOpen($"/proc/{tid}/map_files/{start:x}-{start + AgentLayout.SharedBytes:x}", AgentLayout.SharedBytes, out SharedMemory? shared, out why))
                return false;
            memory = new AgentMemory(shared!);
            return true;
        }

        return false;
    }

    /// <summary>The agents in a process, by what their memory is called in <c>/proc/PID/maps</c>, which the program can call its own too: the daemon, by process id, and where the agent lies.</summary>
    /// <param name="pid">The process; its mappings are read, which may wait for as long as it likes.</param>
    /// <param name="except">Where our own agent lies; 0 for none.</param>
    public static List<(int Owner, ulong Start)> Agents(int pid, ulong except)
    {
        List<Mapping> mappings = [];
        List<(int Owner, ulong Start)> agents = [];
        _ = Mapping.TryReadAll($"/proc/{pid}/maps", mappings);
        Mapping before = default;
        foreach (Mapping mapping in mappings)
        {
            // One without the rest of an agent in front of it came by a fork, in the moment before the agent kept it from forks: there is no agent. And the program may have cut it into pieces.
            bool begins = mapping.Start == before.End && !IsName(before.Name ?? "");
            before = mapping;
            if (!begins || !IsName(mapping.Name) || mapping.Start == except + AgentLayout.SharedOffset)
                continue;
            ReadOnlySpan<char> number = mapping.Name.AsSpan(MappedPrefix.Length);
            int end = number.IndexOf(' ');
            agents.Add((int.TryParse(end < 0 ? number : number[..end], NumberStyles.None, CultureInfo.InvariantCulture, out int owner) ? owner : 0, mapping.Start - AgentLayout.SharedOffset));
        }

        return agents;
    }

    /// <summary>A mapping of that name is such memory.</summary>
    public static bool IsName(string name) => name.StartsWith(MappedPrefix, StringComparison.Ordinal);

    /// <summary>A word; 0 when it cannot be read.</summary>
    public ulong Word(SharedWord word)
    {
        ulong value = 0;
        return _memory.TryRead((int)word, MemoryMarshal.AsBytes(new Span<ulong>(ref value))) ? value : 0;
    }

    /// <returns>False when it cannot be written.</returns>
    public bool WriteWord(SharedWord word, ulong value) => _memory.TryWrite((int)word, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value)));

    /// <summary>Writes operations, each as one that was not tried (EAGAIN), which it is until the executor comes to it.</summary>
    /// <inheritdoc cref="WriteWord"/>
    public bool WriteOperations(Span<AgentOperation> operations)
    {
        foreach (ref AgentOperation operation in operations)
            (operation.Error, operation.Done) = ((long)Errno.EAGAIN, 0);
        return _memory.TryWrite(AgentLayout.OperationsAtShared, MemoryMarshal.AsBytes(operations));
    }

    /// <summary>Makes an operation of a batch that is under way one that is not carried out: EBUSY.</summary>
    /// <inheritdoc cref="WriteWord"/>
    public bool Refuse(int index)
    {
        AgentOperation refused = new() { Error = (long)Errno.EBUSY };
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(new ReadOnlySpan<AgentOperation>(in refused));
        int at = AgentLayout.OperationsAtShared + index * bytes.Length, error = (int)Marshal.OffsetOf<AgentOperation>(nameof(AgentOperation.Error));
        return _memory.TryWrite(at + error, bytes.Slice(error, sizeof(long))) && _memory.TryWrite(at, bytes[..sizeof(OperationKind)]);
    }

    /// <summary>Reads what came of operations: nothing else of them is taken from there, and no more is done than was asked for.</summary>
    /// <returns>False when it cannot be read.</returns>
    public bool ReadOutcomes(Span<AgentOperation> operations)
    {
        AgentOperation[] answered = ArrayPool<AgentOperation>.Shared.Rent(operations.Length);
        bool read = _memory.TryRead(AgentLayout.OperationsAtShared, MemoryMarshal.AsBytes(answered.AsSpan(0, operations.Length)));
        for (int i = 0; read && i < operations.Length; i++)
        {
            operations[i].Error = answered[i].Error;
            operations[i].Done = Math.Min(answered[i].Done, operations[i].Length) & ~(ulong)(AgentLayout.FrameBytes - 1);
        }

        ArrayPool<AgentOperation>.Shared.Return(answered);
        return read;
    }

    /// <summary>The warden's slots for the Ms that forked children brought: descriptors in the agent's table, -1 where there is none, and above them tickets.</summary>
    /// <returns>False when it cannot be read.</returns>
    public bool ReadChildren(Span<long> children) => _memory.TryRead(AgentLayout.Children, MemoryMarshal.AsBytes(children));

    /// <summary>Writes neighbouring signal frames.</summary>
    /// <returns>False when they cannot be written.</returns>
    public bool WriteFrames(int first, ReadOnlySpan<byte> frames) => _memory.TryWrite(AgentLayout.FramesAtShared + first * AgentLayout.FrameBytes, frames);

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();
}
