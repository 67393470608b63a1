using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Samepage.Engine.Records;

/// <summary>A growing column of plain values in native memory, zeroed: no object per value, no collector to walk it.</summary>
internal sealed unsafe class NativeColumn<T> : IDisposable
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

    /// <summary>Makes room for at least so many values; new ones are zero.</summary>
    public void Grow(long capacity)
    {
        if (capacity <= Capacity)
            return;
        _values = (T*)NativeMemory.Realloc(_values, (nuint)(capacity * sizeof(T)));
        NativeMemory.Clear(_values + Capacity, (nuint)((capacity - Capacity) * sizeof(T)));
        Capacity = capacity;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_values);
        _values = null;
        Capacity = 0;
    }

    private void ThrowOutside(long place) => throw new InvalidOperationException($"column of {Capacity} values asked for place {place}");
}
