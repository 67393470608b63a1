namespace Samepage.Engine.Control;

/// <summary>What came of writing a control value.</summary>
public enum ControlOutcome
{
    /// <summary>It is so.</summary>
    Done,

    /// <summary>There is no such value, or the text is none that it takes: nothing has changed (EINVAL).</summary>
    Invalid,

    /// <summary>The text is a number that the value cannot hold: nothing has changed (ERANGE).</summary>
    OutOfRange,

    /// <summary>The value cannot be changed while anything is merged: nothing has changed (EBUSY).</summary>
    Busy,

    /// <summary>The value can only be read: nothing has changed (EACCES).</summary>
    ReadOnly,

    /// <summary>There was no memory to unmerge everything; the scanner is stopped, and asking again goes on (ENOMEM).</summary>
    NoMemory,

    /// <summary>Not everything could be unmerged at this moment; the scanner is stopped, and asking again goes on (EBUSY).</summary>
    Interrupted,
}
