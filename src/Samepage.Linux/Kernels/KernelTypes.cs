using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Kernels;

/// <summary>How the running kernel lays out its structures, by its type information (BTF, Documentation/bpf/btf.rst). Immutable.</summary>
internal sealed class KernelTypes
{
    /// <summary>Where the kernel shows it.</summary>
    public const string Path = "/sys/kernel/btf/vmlinux";

    private const int Entry = 12;
    private readonly byte[] _bytes;
    private readonly int _names;
    private readonly List<int> _types = [0];

    private KernelTypes(byte[] bytes, in LibC.btf_header header)
    {
        _bytes = bytes;
        _names = checked((int)(header.hdr_len + header.str_off));
        int at = checked((int)(header.hdr_len + header.type_off)), end = checked(at + (int)header.type_len);
        // A kind of which this knows nothing ends it: how long it is only its kernel knows.
        for (int length; at < end && (length = Length(At<LibC.btf_type>(at).info)) > 0; at += length)
            _types.Add(at);
    }

    /// <returns>Null where there is none, or it is not to be understood.</returns>
    public static KernelTypes? TryRead(string path = Path)
    {
        try
        {
            byte[] bytes = File.ReadAllBytes(path);
            LibC.btf_header header = MemoryMarshal.Read<LibC.btf_header>(bytes);
            return header is { magic: LibC.BTF_MAGIC, version: 1 } ? new KernelTypes(bytes, header) : null;
        }
        catch (Exception failed) when (failed is IOException or UnauthorizedAccessException or ArgumentException or OverflowException)
        {
            return null;
        }
    }

    /// <summary>Bytes of a structure; -1 when there is none of that name.</summary>
    public int SizeOf(ReadOnlySpan<byte> structure) => Find(structure) is int at and >= 0 ? (int)At<LibC.btf_type>(at).size : -1;

    /// <summary>Where a field is in a structure, in bytes, also one of a nameless part of it; -1 when there is none.</summary>
    public int OffsetOf(ReadOnlySpan<byte> structure, ReadOnlySpan<byte> field) => Find(structure) is int at and >= 0 ? Offset(at, field) : -1;

    private int Offset(int type, ReadOnlySpan<byte> field)
    {
        uint info = At<LibC.btf_type>(type).info;
        if (Kind(info) is not (LibC.BTF_KIND_STRUCT or LibC.BTF_KIND_UNION))
            return -1;
        for (int i = 0; i < (ushort)info; i++)
        {
            LibC.btf_member member = At<LibC.btf_member>(type + Entry + i * Entry);
            // With the flag of the structure set, the upper 8 bits are the size of a field of bits.
            int offset = (int)(member.offset & (info >> 31 == 0 ? uint.MaxValue : 0xFFFFFF)) / 8;
            if (HasName(member.name_off, field))
                return offset;
            if (member.name_off == 0 && member.type < _types.Count && Offset(_types[(int)member.type], field) is int inner and >= 0)
                return offset + inner;
        }

        return -1;
    }

    private int Find(ReadOnlySpan<byte> structure)
    {
        foreach (int at in CollectionsMarshal.AsSpan(_types)[1..])
        {
            LibC.btf_type type = At<LibC.btf_type>(at);
            if (Kind(type.info) == LibC.BTF_KIND_STRUCT && HasName(type.name_off, structure))
                return at;
        }

        return -1;
    }

    private bool HasName(uint at, ReadOnlySpan<byte> name)
    {
        ReadOnlySpan<byte> here = _bytes.AsSpan(_names + (int)at);
        return here.StartsWith(name) && here[name.Length] == 0;
    }

    private T At<T>(int place)
        where T : unmanaged => MemoryMarshal.Read<T>(_bytes.AsSpan(place));

    private static int Kind(uint info) => (int)(info >> 24) & 0x1F;

    /// <summary>Bytes of a type with what follows it; -1 for a kind that is not known.</summary>
    private static int Length(uint info)
    {
        int entries = (ushort)info;
        return Entry + Kind(info) switch
        {
            LibC.BTF_KIND_INT or LibC.BTF_KIND_VAR or LibC.BTF_KIND_DECL_TAG => 4,
            LibC.BTF_KIND_ARRAY => 12,
            LibC.BTF_KIND_STRUCT or LibC.BTF_KIND_UNION or LibC.BTF_KIND_DATASEC or LibC.BTF_KIND_ENUM64 => entries * 12,
            LibC.BTF_KIND_ENUM or LibC.BTF_KIND_FUNC_PROTO => entries * 8,
            LibC.BTF_KIND_PTR or LibC.BTF_KIND_FWD or LibC.BTF_KIND_TYPEDEF or LibC.BTF_KIND_VOLATILE or LibC.BTF_KIND_CONST or LibC.BTF_KIND_RESTRICT
                or LibC.BTF_KIND_FUNC or LibC.BTF_KIND_FLOAT or LibC.BTF_KIND_TYPE_TAG => 0,
            _ => -Entry - 1,
        };
    }
}
