namespace Samepage.Api;

/// <summary>What <c>GET /v1/processes/PID/areas</c> answers: one process, area by area.</summary>
/// <param name="Pid">Its process id.</param>
/// <param name="Name">Its command name.</param>
/// <param name="Domain">Its trust domain.</param>
/// <param name="PageSize">Bytes per page.</param>
/// <param name="PagesPerCell">Pages that one letter of <see cref="AreaReport.Cells"/> stands for; 0 where no picture was asked for.</param>
/// <param name="Areas">Its areas by rising address; the last has no name and no addresses: records of pages that are in no area any more.</param>
/// <param name="AgentBytes">What the agent costs the process, bytes; in no area.</param>
/// <param name="Total">The sums of all areas; its profit less <paramref name="AgentBytes"/>. Where all was looked at in one step, as always with less than
/// a million pages tracked, these are the figures of the process in the status at that moment.</param>
public sealed record AreasReply(int Pid, string Name, string Domain, int PageSize, long PagesPerCell, AreaReport[] Areas, long AgentBytes, AreaReport Total);

/// <summary>An area: neighbouring mappings that the program sees as one, merged pages and others together.</summary>
/// <param name="Start">Its first byte, hexadecimal as in <c>/proc/PID/maps</c>.</param>
/// <param name="End">One past its last byte.</param>
/// <param name="Name">What the kernel calls it, such as <c>[heap]</c>; empty where it has no name.</param>
/// <param name="PagesTracked">Pages that have a record.</param>
/// <param name="PagesMerged">Pages mapped to a frame.</param>
/// <param name="ZeroPages">Pages given back to the kernel's zero page.</param>
/// <param name="PagesUnshared">Pages unique so far.</param>
/// <param name="PagesVolatile">Pages that change too fast to be looked up.</param>
/// <param name="PagesBroken">Pages written back: they were merged, and a write has made them private again.</param>
/// <param name="PagesOther">The other pages that have a record: they wait, fork shares them already, are swapped out, or are left alone.</param>
/// <param name="ProfitBytes">Bytes saved in it less its part of the frames' and records' cost; may be negative.</param>
/// <param name="Cells">The picture, a letter for each <see cref="AreasReply.PagesPerCell"/> pages: what most of them are. M merged, 0 zero page, u unique, v volatile,
/// w waits, f shared by fork, b written back, a absent, o left alone for its content, . without a record. Empty where none was asked for.</param>
public sealed record AreaReport(
    string Start, string End, string Name, long PagesTracked, long PagesMerged, long ZeroPages, long PagesUnshared, long PagesVolatile, long PagesBroken,
    long PagesOther, long ProfitBytes, string Cells);

/// <summary>What <c>GET /v1/frames</c> answers: the most shared contents.</summary>
/// <param name="PageSize">Bytes per page.</param>
/// <param name="Frames">The most shared first.</param>
public sealed record FramesReply(int PageSize, FrameReport[] Frames);

/// <summary>A frame, what is in it, and who maps it.</summary>
/// <param name="Domain">Its trust domain.</param>
/// <param name="Frame">Its number in the domain's pool.</param>
/// <param name="Users">Pages mapped to it.</param>
/// <param name="SavedBytes">Bytes that sharing it saves.</param>
/// <param name="Looks">What its content looks like; a guess.</param>
/// <param name="Hex">Its first 32 bytes.</param>
/// <param name="Text">Its first 48 bytes, as far as they can be printed.</param>
/// <param name="Processes">Who maps it, by the reverse map.</param>
public sealed record FrameReport(string Domain, long Frame, long Users, long SavedBytes, string Looks, string Hex, string Text, FrameProcess[] Processes);

/// <summary>A process that maps a frame.</summary>
/// <param name="Pid">Its process id.</param>
/// <param name="Name">Its command name.</param>
/// <param name="Pages">How many of its pages are mapped to the frame.</param>
/// <param name="FirstAddress">Where the first of them is, hexadecimal.</param>
public sealed record FrameProcess(int Pid, string Name, long Pages, string FirstAddress);

/// <summary>What <c>GET /v1/history</c> answers: savings over time, in columns of equal length, the oldest first. The last hour is kept at every five seconds, the last day by the minute.</summary>
/// <param name="Now">When this was answered: seconds of a clock that never goes back, the same as <paramref name="At"/> is told by.</param>
/// <param name="At">When each sample was taken.</param>
/// <param name="ProfitBytes">Bytes saved less all that the daemon and its agents cost; may be negative.</param>
/// <param name="SharedBytes">Bytes of pages that shared a frame, less the frames.</param>
/// <param name="ZeroBytes">Bytes of pages left to the zero page.</param>
public sealed record HistoryReply(long Now, long[] At, long[] ProfitBytes, long[] SharedBytes, long[] ZeroBytes);

/// <summary>What <c>GET /v1/web</c> answers, on the socket only, and <c>samepage web --json</c> prints.</summary>
/// <param name="Url">The address of the web page, with the token behind <c>#</c>.</param>
public sealed record WebReply(string Url);
