using System.Buffers.Binary;
using Samepage.Linux.Seccomp;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.LinuxTests;

/// <summary>Programs of classic BPF by hand, and what they answer to a call of which all is known: written as the manual pages say it, with nothing of the walker's.</summary>
internal static class Bpf
{
    public const uint Allow = SECCOMP_RET_ALLOW, Kill = SECCOMP_RET_KILL_PROCESS;

    public static BpfInstruction Op(int code, uint k = 0, int jumpTrue = 0, int jumpFalse = 0) => new((ushort)code, (byte)jumpTrue, (byte)jumpFalse, k);

    public static BpfInstruction LoadWord(int word) => Op(BPF_LD | BPF_ABS, (uint)word * 4);

    /// <summary>The lower half of an argument.</summary>
    public static BpfInstruction LoadArgument(int argument, bool upper = false) => LoadWord(4 + argument * 2 + (upper ? 1 : 0));

    public static BpfInstruction Return(uint answer) => Op(BPF_RET, answer);

    public static byte[] Bytes(params ReadOnlySpan<BpfInstruction> program)
    {
        byte[] bytes = new byte[program.Length * BpfInstruction.Size];
        for (int i = 0; i < program.Length; i++)
        {
            Span<byte> at = bytes.AsSpan(i * BpfInstruction.Size);
            BinaryPrimitives.WriteUInt16LittleEndian(at, program[i].Code);
            (at[2], at[3]) = (program[i].JumpTrue, program[i].JumpFalse);
            BinaryPrimitives.WriteUInt32LittleEndian(at[4..], program[i].K);
        }
        return bytes;
    }

    public static SeccompFilter Filter(params ReadOnlySpan<BpfInstruction> program)
    {
        SeccompFilter filter = SeccompFilter.Parse(Bytes(program));
        Assert.Null(filter.Fault);
        return filter;
    }

    /// <summary><c>struct seccomp_data</c> as 16 words.</summary>
    public static uint[] Data(uint number, ulong instructionPointer, params ReadOnlySpan<ulong> arguments)
    {
        uint[] data = new uint[16];
        (data[0], data[1], data[2], data[3]) = (number, AUDIT_ARCH_X86_64, (uint)instructionPointer, (uint)(instructionPointer >> 32));
        for (int i = 0; i < arguments.Length; i++)
            (data[4 + i * 2], data[5 + i * 2]) = ((uint)arguments[i], (uint)(arguments[i] >> 32));
        return data;
    }

    /// <summary>What a filter answers, all 32 bits.</summary>
    public static uint Run(ReadOnlySpan<BpfInstruction> program, uint[] data)
    {
        uint a = 0, x = 0;
        uint[] memory = new uint[16];
        for (int at = 0; ;)
        {
            BpfInstruction now = program[at++];
            (uint k, uint s) = (now.K, (now.Code & 8) != 0 ? x : now.K);
            switch ((int)now.Code)
            {
                case 0x00: a = k; break;
                case 0x20: a = data[k / 4]; break;
                case 0x60: a = memory[k]; break;
                case 0x80: a = 64; break;
                case 0x01: x = k; break;
                case 0x61: x = memory[k]; break;
                case 0x81: x = 64; break;
                case 0x02: memory[k] = a; break;
                case 0x03: memory[k] = x; break;
                case 0x04 or 0x0C: a = unchecked(a + s); break;
                case 0x14 or 0x1C: a = unchecked(a - s); break;
                case 0x24 or 0x2C: a = unchecked(a * s); break;
                case 0x34 or 0x3C when s == 0: return 0;
                case 0x34 or 0x3C: a /= s; break;
                case 0x44 or 0x4C: a |= s; break;
                case 0x54 or 0x5C: a &= s; break;
                case 0x64 or 0x6C: a <<= (int)(s % 32); break;
                case 0x74 or 0x7C: a >>= (int)(s % 32); break;
                case 0x84: a = unchecked(0 - a); break;
                case 0xA4 or 0xAC: a ^= s; break;
                case 0x05: at += (int)k; break;
                case 0x15 or 0x1D: at += a == s ? now.JumpTrue : now.JumpFalse; break;
                case 0x25 or 0x2D: at += a > s ? now.JumpTrue : now.JumpFalse; break;
                case 0x35 or 0x3D: at += a >= s ? now.JumpTrue : now.JumpFalse; break;
                case 0x45 or 0x4D: at += (a & s) != 0 ? now.JumpTrue : now.JumpFalse; break;
                case 0x06: return k;
                case 0x16: return a;
                case 0x07: x = a; break;
                case 0x87: a = x; break;
                default: throw new InvalidOperationException($"code {now.Code:x}");
            }
        }
    }

    /// <summary>Of several answers the one that the kernel follows.</summary>
    public static uint Lowest(IEnumerable<uint> answers) => answers.MinBy(static answer => (int)(answer & 0xFFFF0000));

    /// <summary>What the kernel does for an answer.</summary>
    public static SeccompActions Action(uint answer) => (answer >> 16) switch
    {
        0x7FFF => SeccompActions.Allow,
        0x7FFC => SeccompActions.Log,
        0x7FF0 => SeccompActions.Trace,
        0x7FC0 => SeccompActions.UserNotify,
        0x0005 => SeccompActions.Errno,
        0x0003 => SeccompActions.Trap,
        0x0000 => SeccompActions.KillThread,
        _ => SeccompActions.KillProcess,
    };
}
