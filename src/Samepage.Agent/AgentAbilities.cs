namespace Samepage.Agent;

/// <summary>What an agent does only where the filters of its threads allow every call that it takes. Where they do not, the memory that needs it is left alone, and all else is served.</summary>
[Flags]
public enum AgentAbilities
{
    /// <summary>None of these.</summary>
    None = 0,

    /// <summary>It gives memory a name, PR_SET_VMA_ANON_NAME.</summary>
    Names = 1,

    /// <summary>It makes memory that can be executed, and lets such memory be written for a moment.</summary>
    Code = 2,

    /// <summary>All of them.</summary>
    All = Names | Code,
}
