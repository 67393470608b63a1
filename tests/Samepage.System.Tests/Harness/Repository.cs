using System.Diagnostics;

namespace Samepage.SystemTests.Harness;

/// <summary>Where things are: the checkout, the program under test, the targets (compiled at the first use).</summary>
internal static class Repository
{
    private static readonly Lazy<string> Compiled = new(Compile);

    public static string Root { get; } = FindRoot();

    /// <summary>The program under test, and what comes before its arguments: what was built, or what <c>SAMEPAGE_PROGRAM</c> names, such as the package's.</summary>
    public static string[] Program { get; } = Environment.GetEnvironmentVariable("SAMEPAGE_PROGRAM") is { Length: > 0 } named
        ? [named]
        : [Environment.ProcessPath is { } path && Path.GetFileName(path) == "dotnet" ? path : "dotnet", Path.Combine(Root, "artifacts", "bin", "Samepage", "release", "samepage.dll")];

    /// <summary>Copies a target to where it is run under another name, or by everybody.</summary>
    /// <remarks>By a program of its own: what another thread forks at this moment would have the copy open for writing until it has called exec, and nobody could run it (ETXTBSY).</remarks>
    public static void CopyTarget(string name, string to)
    {
        using Process copying = Process.Start("cp", [Target(name), to]);
        copying.WaitForExit();
        Assert.Equal(0, copying.ExitCode);
    }

    /// <summary>Rules that leave the programs of other tests alone, which run beside and advise memory too: all targets, and what was copied into the folder of a test.</summary>
    public static string OthersExcluded => $"[[exclude]]\nexecutable = \"{Compiled.Value}/*\"\n[[exclude]]\nexecutable = \"{Path.Combine(Path.GetTempPath(), "samepage-")}*\"\n";

    /// <returns>Path of a compiled target.</returns>
    public static string Target(string name) => Path.Combine(Compiled.Value, name);

    /// <returns>False where the kernel refuses to run a target at all: ENOEXEC.</returns>
    public static bool Runs(string name)
    {
        const int ENOEXEC = 8;
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(Target(name)) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
            process.StandardInput.Close();
            process.WaitForExit();
            return true;
        }
        catch (System.ComponentModel.Win32Exception refused) when (refused.NativeErrorCode == ENOEXEC)
        {
            return false;
        }
    }

    private static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(Path.Combine(folder.FullName, "Samepage.slnx")))
                return folder.FullName;
        throw new InvalidOperationException($"no Samepage.slnx above {AppContext.BaseDirectory}");
    }

    private static string Compile()
    {
        string output = Path.Combine(Root, "artifacts", "targets");
        var start = new ProcessStartInfo("make")
        {
            ArgumentList = { "--silent", "-j2", "-C", Path.Combine(Root, "tests", "targets"), $"OUT={output}" },
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        using Process make = Process.Start(start) ?? throw new InvalidOperationException("make did not start");
        Task<string> errors = make.StandardError.ReadToEndAsync();
        string said = make.StandardOutput.ReadToEnd();
        make.WaitForExit();
        return make.ExitCode == 0 ? output : throw new InvalidOperationException($"the targets do not compile:\n{said}{errors.Result}");
    }
}
