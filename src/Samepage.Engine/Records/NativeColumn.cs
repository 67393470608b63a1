using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Samepage.Engine.Records;

/// <summary>A growing column of plain values in native memory, zeroed: no object per value, no collector to walk it.</summary>
internal sealed unsafe class NativeColumn<T>(MemoryBudget budget) : IDisposable
    where T : unmanaged
{
    private T* _values;

    /// <summary>Values that there is room for.</summary>
    public long Capacity { get; private set; }

    /// <summary>Bytes held.</summary>
    public long Bytes => Capacity * sizeof(T);

    /// <summary>The value at a place below <see cref="Capacity"/>.</summary>
    public ref T this[long place]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            if ((ulong)place >= (ulong)Capacity)
                ThrowOutside(place);
            return ref _values[place];
        }
    }

    /// <summary>Neighbouring values.</summary>
    public Span<T> Slice(long first, int count)
    {
        if (first < 0 || count < 0 || first + count > Capacity)
            ThrowOutside(first + count);
        return new Span<T>(_values + first, count);
    }

    /// <summary>Makes room for at least so many values; new ones are zero.</summary>
    /// <returns>False when there is no memory: nothing has changed.</returns>
    public bool TryGrow(long capacity)
    {
        if (capacity <= Capacity)
            return true;
        long more = (capacity - Capacity) * sizeof(T);
        if (!budget.TryTake(more))
            return false;
        try
        {
            _values = (T*)NativeMemory.Realloc(_values, (nuint)(capacity * sizeof(T)));
        }
        catch (OutOfMemoryException)
        {
            budget.Return(more);
            return false;
        }

        NativeMemory.Clear(_values + Capacity, (nuint)more);
        Capacity = capacity;
        return true;
    }

    /// <summary>Room for so many zeros in place of what was there. Large columns come from the system zeroed, so that the cost does not grow with what is dropped.</summary>
    /// <returns>False when there is no memory: the column is empty then.</returns>
    public bool TryRenew(long capacity)
    {
        Dispose();
        if (!budget.TryTake(capacity * sizeof(T)))
            return false;
        try
        {
            _values = (T*)NativeMemory.AllocZeroed((nuint)capacity, (nuint)sizeof(T));
        }
        catch (OutOfMemoryException)
        {
            budget.Return(capacity * sizeof(T));
            return false;
        }

        Capacity = capacity;
        return true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        budget.Return(Bytes);
        NativeMemory.Free(_values);
        _values = null;
        Capacity = 0;
    }

    private void ThrowOutside(long place) => throw new InvalidOperationException($"column of {Capacity} values asked for place {place}");
}
