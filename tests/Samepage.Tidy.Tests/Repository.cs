namespace Samepage.TidyTests;

/// <summary>The checkout that these tests were built from.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>Every C# file under a folder, without what the build makes.</summary>
    public static IEnumerable<string> Sources(params string[] folders) => folders
        .SelectMany(folder => Directory.EnumerateFiles(Path.Combine(Root, folder), "*.cs", SearchOption.AllDirectories))
        .Where(path => !path.Contains("/obj/", StringComparison.Ordinal) && !path.Contains("/artifacts/", StringComparison.Ordinal));

    /// <summary>A path as a reader of the repository would write it.</summary>
    public static string Short(string path) => Path.GetRelativePath(Root, path);

    /// <summary>A built assembly of a project.</summary>
    public static string Assembly(string project, string file) => Path.Combine(Root, "artifacts", "bin", project, "release", file);

    private static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(Path.Combine(folder.FullName, "Samepage.slnx")))
                return folder.FullName;
        throw new InvalidOperationException($"no Samepage.slnx above {AppContext.BaseDirectory}");
    }
}
