namespace Samepage.SystemTests.Harness;

/// <summary>What a test needs of the machine; where it lacks, the test is skipped and says why.</summary>
internal static class Needs
{
    public static void Root() => Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: other processes are taken in");

    public static string Program(string name, string package)
    {
        Root();
        foreach (string folder in SearchPath)
        {
            string path = Path.Combine(folder, name);
            if (File.Exists(path))
                return path;
        }

        Assert.Skip($"needs {name}: install {package}");
        return "";
    }

    private static IEnumerable<string> SearchPath
    {
        get
        {
            // Debian keeps the server's programs of each version apart; the system's own come before a user's wrappers.
            IEnumerable<string> folders = ["/usr/bin", "/usr/sbin", "/bin"];
            if (Directory.Exists("/usr/lib/postgresql"))
                folders = folders.Concat(Directory.GetDirectories("/usr/lib/postgresql").OrderDescending().Select(version => Path.Combine(version, "bin")));
            return folders.Concat((Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries));
        }
    }
}
