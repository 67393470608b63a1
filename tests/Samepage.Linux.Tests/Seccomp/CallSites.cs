using Iced.Intel;
using Samepage.Agent;

namespace Samepage.LinuxTests.Seccomp;

/// <summary>What a register can hold: one of some values, or, where there is no list, whatever agrees with the bits that are known.</summary>
internal sealed record Held(ulong[]? Values, ulong Value, ulong Known)
{
    private const int Most = 64;
    public static readonly Held Anything = new(null, 0, 0), AnyOf32 = new(null, 0, ~(ulong)uint.MaxValue);

    public static Held Of(params ulong[] values)
    {
        ulong[] distinct = [.. values.Distinct().Order()];
        return distinct.Length <= Most ? new Held(distinct, 0, 0) : AgreeingWith(distinct);
    }

    private static Held AgreeingWith(ulong[] values)
    {
        ulong known = values.Aggregate(ulong.MaxValue, (known, value) => known & ~(value ^ values[0]));
        return new Held(null, values[0] & known, known);
    }

    public Held Or(Held other)
    {
        if (Values is not null && other.Values is not null)
            return Of([.. Values, .. other.Values]);
        (Held one, Held two) = (Loose, other.Loose);
        ulong known = one.Known & two.Known & ~(one.Value ^ two.Value);
        return new Held(null, one.Value & known, known);
    }

    public bool Is(Held other) => Value == other.Value && Known == other.Known && (Values is null ? other.Values is null : other.Values is not null && Values.SequenceEqual(other.Values));

    /// <summary>The values, or null for such as agree with the known bits alone.</summary>
    public Held Map(Func<ulong, ulong> map, Func<Held, Held> otherwise) => Values is null ? otherwise(this) : Of([.. Values.Select(map)]);

    /// <summary>Every one of its values has these bits so.</summary>
    public bool Has(ulong value, ulong known) => Values is null ? (known & ~Known) == 0 && ((value ^ Value) & known) == 0 : Values.All(held => ((held ^ value) & known) == 0);

    private Held Loose => Values is null ? this : AgreeingWith(Values);
}

/// <summary>A system call instruction in assembled code, and what its number and arguments can be there.</summary>
internal sealed record CallSite(ulong At, ulong[] Numbers, Held[] Arguments)
{
    /// <summary>The site as several, of which each has one number, and one value of each argument of which there is a list.</summary>
    public IEnumerable<(ulong Number, Held[] Arguments)> Cases()
    {
        foreach (ulong number in Numbers)
        {
            IEnumerable<Held[]> cases = [[]];
            foreach (Held argument in Arguments)
                cases = [.. cases.SelectMany(one => (argument.Values is null ? [argument] : argument.Values.Select(value => Held.Of(value))).Select(value => (Held[])[.. one, value]))];
            foreach (Held[] arguments in cases)
                yield return (number, arguments);
        }
    }
}

/// <summary>Finds every system call instruction in the agent's code, and all values with which it can be reached: the code is walked along all its ways, until nothing new comes.</summary>
/// <remarks>What is not understood may be anything, so no value is missing. Registers are kept over the call of a subroutine that does not write them, or brings them back by what it pops at its end.</remarks>
internal sealed class CallSites(byte[] code)
{
    private static readonly Register[] s_arguments = [Register.RDI, Register.RSI, Register.RDX, Register.R10, Register.R8, Register.R9];
    private static readonly ulong[] s_endings = [60, 231, 15]; // exit, exit_group, rt_sigreturn
    private readonly Dictionary<ulong, Instruction> _code = [];
    private readonly Dictionary<ulong, Dictionary<Register, Held>> _states = [];
    private readonly Queue<ulong> _work = new();
    private readonly InstructionInfoFactory _infos = new();
    private readonly Dictionary<ulong, HashSet<Register>> _written = [];
    private Held _protection = Held.Of(0);

    public List<CallSite> Find()
    {
        Held before;
        do
        {
            before = _protection;
            _states.Clear();
            Reach(0, []);
            while (_work.TryDequeue(out ulong at))
                Step(at);
        }
        while (!before.Is(_protection));
        return [.. _states.Keys.Where(at => At(at).Mnemonic == Mnemonic.Syscall).Order().Select(at => new CallSite(at,
            Value(_states[at], Register.RAX).Values ?? throw new InvalidOperationException($"the number of the call at 0x{at:x} can be anything"),
            [.. s_arguments.Select(register => Value(_states[at], register))]))];
    }

    /// <summary>A byte of the code is part of an instruction that was reached.</summary>
    public bool IsReached(int at) => _states.Keys.Any(start => start <= (ulong)at && (ulong)at < At(start).NextIP);

    private Instruction At(ulong at)
    {
        if (!_code.TryGetValue(at, out Instruction instruction))
        {
            Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(code, (int)at, code.Length - (int)at));
            decoder.IP = at;
            _code[at] = instruction = decoder.Decode();
            if (instruction.IsInvalid)
                throw new InvalidOperationException($"there is no instruction at 0x{at:x}");
        }

        return instruction;
    }

    private static Held Value(Dictionary<Register, Held> state, Register register) => state.GetValueOrDefault(register, Held.Anything);

    private void Reach(ulong at, Dictionary<Register, Held> state)
    {
        if (!_states.TryGetValue(at, out Dictionary<Register, Held>? known))
        {
            _states[at] = new(state);
            _work.Enqueue(at);
            return;
        }

        bool isNew = false;
        foreach (Register register in known.Keys.ToArray())
        {
            Held both = known[register].Or(Value(state, register));
            isNew |= !both.Is(known[register]);
            known[register] = both;
        }

        if (isNew)
            _work.Enqueue(at);
    }

    private void Step(ulong at)
    {
        Instruction instruction = At(at);
        Dictionary<Register, Held> state = new(_states[at]);
        switch (instruction.FlowControl)
        {
            case FlowControl.Return or FlowControl.IndirectBranch:
                return;
            case FlowControl.UnconditionalBranch:
                Reach(instruction.NearBranchTarget, state);
                return;
            case FlowControl.ConditionalBranch:
                Reach(instruction.NearBranchTarget, state);
                // cmp register, constant; ja: behind it the register is no more than that.
                if (instruction.Mnemonic == Mnemonic.Ja && _code.Values.FirstOrDefault(one => one.NextIP == at) is { Mnemonic: Mnemonic.Cmp, Op0Kind: OpKind.Register } compared && compared.Op1Kind is not (OpKind.Register or OpKind.Memory) &&
                    Value(state, compared.Op0Register.GetFullRegister()) is { Values: { } values })
                    state[compared.Op0Register.GetFullRegister()] = Held.Of([.. values.Where(value => value <= compared.GetImmediate(1))]);
                Reach(instruction.NextIP, state);
                return;
            case FlowControl.Call when instruction.Mnemonic == Mnemonic.Syscall:
                if (Value(state, Register.RAX).Values is { } numbers && numbers.All(s_endings.Contains))
                    return;
                (state[Register.RAX], state[Register.RCX], state[Register.R11]) = (Held.Anything, Held.Anything, Held.Anything);
                Reach(instruction.NextIP, state);
                return;
            case FlowControl.Call:
                Reach(instruction.NearBranchTarget, state);
                foreach (Register register in WrittenBy(instruction.NearBranchTarget))
                    state[register] = Held.Anything;
                Reach(instruction.NextIP, state);
                return;
            default:
                Apply(instruction, state);
                Reach(instruction.NextIP, state);
                return;
        }
    }

    private void Apply(in Instruction instruction, Dictionary<Register, Held> state)
    {
        bool isProtection = instruction.MemoryBase == Register.R12 && instruction.MemoryDisplacement64 == (ulong)OwnWord.Protection && instruction.MemoryIndex == Register.None;
        if (isProtection && instruction is { Mnemonic: Mnemonic.Mov, Op0Kind: OpKind.Memory })
            _protection = _protection.Or(instruction.Op1Kind == OpKind.Register ? Value(state, instruction.Op1Register.GetFullRegister()) : Held.Anything);
        Held? result = null;
        if (instruction.Op0Kind == OpKind.Register)
        {
            Held own = Value(state, instruction.Op0Register.GetFullRegister());
            ulong immediate = instruction.OpCount == 2 && instruction.Op1Kind is not (OpKind.Register or OpKind.Memory) ? instruction.GetImmediate(1) : 0;
            result = (instruction.Mnemonic, instruction.Op1Kind) switch
            {
                (Mnemonic.Mov, OpKind.Register) => Value(state, instruction.Op1Register.GetFullRegister()),
                (Mnemonic.Mov, OpKind.Memory) => isProtection ? _protection : Held.Anything,
                (Mnemonic.Mov, _) => Held.Of(immediate),
                (Mnemonic.Xor, OpKind.Register) when instruction.Op0Register == instruction.Op1Register => Held.Of(0),
                (Mnemonic.And, not (OpKind.Register or OpKind.Memory)) => own.Map(value => value & immediate, held => (uint)immediate <= 63 && immediate <= 63
                    ? Held.Of([.. Enumerable.Range(0, 64).Select(value => (ulong)value & immediate)])
                    : new Held(null, held.Value & immediate, held.Known | ~immediate)),
                (Mnemonic.Or, not (OpKind.Register or OpKind.Memory)) => own.Map(value => value | immediate, held => new Held(null, held.Value | immediate, held.Known | immediate)),
                (Mnemonic.Inc, _) => own.Map(value => value + 1, _ => Held.Anything),
                _ => null,
            };
        }

        Register written = instruction.Op0Kind == OpKind.Register ? instruction.Op0Register : Register.None;
        foreach (UsedRegister used in _infos.GetInfo(instruction).GetUsedRegisters())
        {
            if (!IsWrite(used.Access) || !used.Register.IsGPR())
                continue;
            Register full = used.Register.GetFullRegister();
            bool isResult = result is not null && full == written.GetFullRegister();
            Held value = isResult ? result! : Held.Anything;
            if (used.Register.IsGPR32() || (isResult && written.IsGPR32()))
                value = value.Map(held => (uint)held, held => new Held(null, held.Value & uint.MaxValue, held.Known | ~(ulong)uint.MaxValue));
            // A conditional move may leave it as it was.
            state[full] = used.Access is OpAccess.CondWrite or OpAccess.ReadCondWrite ? value.Or(Value(state, full)) : value;
        }
    }

    private static bool IsWrite(OpAccess access) => access is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite or OpAccess.ReadCondWrite;

    /// <summary>The registers that a subroutine does not bring back as they were.</summary>
    private HashSet<Register> WrittenBy(ulong entry)
    {
        if (_written.TryGetValue(entry, out HashSet<Register>? known))
            return known;
        HashSet<Register> written = _written[entry] = [];
        List<Register> pushed = [];
        ulong at = entry;
        for (; At(at).Mnemonic is Mnemonic.Push or Mnemonic.Nop && At(at) is { } instruction; at = instruction.NextIP)
        {
            if (instruction.Mnemonic == Mnemonic.Push && instruction.Op0Kind == OpKind.Register)
                pushed.Add(instruction.Op0Register);
        }

        HashSet<ulong> seen = [];
        Stack<ulong> ways = new([entry]);
        bool bringsBack = true;
        while (ways.TryPop(out ulong place))
        {
            if (!seen.Add(place))
                continue;
            Instruction instruction = At(place);
            if (instruction.FlowControl == FlowControl.Return)
                bringsBack &= PopsBefore(place, seen, pushed);
            if (instruction.FlowControl == FlowControl.Call && instruction.Mnemonic != Mnemonic.Syscall)
                written.UnionWith(WrittenBy(instruction.NearBranchTarget));
            foreach (UsedRegister used in _infos.GetInfo(instruction).GetUsedRegisters())
            {
                if (IsWrite(used.Access) && used.Register.IsGPR() && used.Register.GetFullRegister() != Register.RSP)
                    written.Add(used.Register.GetFullRegister());
            }

            if (instruction.FlowControl is FlowControl.UnconditionalBranch or FlowControl.ConditionalBranch)
                ways.Push(instruction.NearBranchTarget);
            if (instruction.FlowControl is not (FlowControl.UnconditionalBranch or FlowControl.Return or FlowControl.IndirectBranch))
                ways.Push(instruction.NextIP);
        }

        if (bringsBack)
            written.ExceptWith(pushed);
        written.UnionWith([Register.RAX, Register.RCX, Register.R11]);
        return written;
    }

    /// <summary>What stands right before a return pops what was pushed, in the other order.</summary>
    private bool PopsBefore(ulong end, HashSet<ulong> seen, List<Register> pushed)
    {
        List<Register> popped = [];
        ulong at = end;
        while (seen.Select(At).FirstOrDefault(one => one.NextIP == at) is { Mnemonic: Mnemonic.Pop } pop)
        {
            popped.Insert(0, pop.Op0Register);
            at = pop.IP;
        }

        return popped.Count >= pushed.Count && popped[^pushed.Count..].SequenceEqual(Enumerable.Reverse(pushed));
    }
}
