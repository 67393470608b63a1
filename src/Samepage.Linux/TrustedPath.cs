namespace Samepage.Linux;

/// <summary>Whether a path is root's and ours alone: nobody else can change what it leads to, or what stands there.</summary>
/// <remarks>The path is walked name by name from <c>/</c>, as the kernel does. Every directory, every link and what stands at the end must belong to root or to us, and none may be writable by group
/// or others; but for directories with the sticky bit on the way (<c>/tmp</c>), in which nobody can take away what is ours. A link's owner could change it, so a link counts as what it leads to does.</remarks>
public static class TrustedPath
{
    private const int LinksMax = 40; // as the kernel has it
    private const uint Root = 0;

    /// <summary>Looks at a path.</summary>
    /// <param name="path">An absolute path.</param>
    /// <param name="isThere">There is something at its end.</param>
    /// <param name="parents">What leads to it is looked at too.</param>
    /// <param name="links">The last name may be a link.</param>
    /// <returns>What speaks against it, in words that go on after the path; null when nothing does.</returns>
    public static string? WhyNot(string path, out bool isThere, bool parents = true, bool links = true)
    {
        isThere = false;
        string current = "/";
        if (parents && WhyNotAlone(current, isLast: false) is { } root)
            return root;
        LinkedList<string> names = new(Names(path));
        for (int followed = 0; names.First is { } first;)
        {
            names.RemoveFirst();
            string next = first.Value == ".." ? Path.GetDirectoryName(current) ?? "/" : Path.Combine(current, first.Value);
            if (first.Value == "..")
            {
                current = next;
                continue;
            }

            bool isLast = names.Count == 0;
            Errno errno = FileFacts.TryRead(next, follow: false, out FileFacts facts);
            if (errno == Errno.ENOENT)
                return null;
            if (errno != Errno.None)
                return $"{next} cannot be looked at: {errno}";
            if (isLast && !links && facts.Kind == FileKind.Link)
                return $"{next} is a symbolic link; name what it leads to";
            if ((parents || isLast) && WhyNotAlone(next, isLast) is { } why)
                return why;
            if (facts.Kind != FileKind.Link)
            {
                current = next;
                continue;
            }

            if (++followed > LinksMax)
                return $"{next} is a link that leads nowhere: ELOOP";
            string target = File.ResolveLinkTarget(next, returnFinalTarget: false) is null ? "" : new FileInfo(next).LinkTarget ?? "";
            if (target.StartsWith('/'))
                current = "/";
            foreach (string name in Names(target).Reverse())
                names.AddFirst(name);
        }

        isThere = true;
        return null;
    }

    private static string[] Names(string path) => [.. path.Split('/', StringSplitOptions.RemoveEmptyEntries).Where(name => name != ".")];

    private static string? WhyNotAlone(string path, bool isLast)
    {
        if (FileFacts.TryRead(path, follow: false, out FileFacts facts) is not Errno.None and var errno)
            return $"{path} cannot be looked at: {errno}";
        uint we = FileFacts.OurUser;
        if (facts.Owner != Root && facts.Owner != we)
            return $"{path} belongs to user {facts.Owner}, who could change it; it must be {(we == Root ? "root's" : $"root's, or user {we}'s")}";
        if (facts.Kind == FileKind.Link)
            return null; // its own mode means nothing
        if (!isLast && facts.Kind != FileKind.Directory)
            return $"{path} is {facts.Words}, and no directory";
        return facts.IsOpenToOthers && (isLast || !facts.IsSticky)
            ? $"others than its owner may write {(facts.Kind == FileKind.Directory ? "in " : "")}{path} (mode 0{Convert.ToString((int)facts.Mode, 8)}); take that away with: chmod go-w {path}"
            : null;
    }
}
