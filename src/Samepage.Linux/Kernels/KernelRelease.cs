using System.Globalization;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Kernels;

/// <summary>Which upstream kernel a kernel is made of: a series such as 6.12, and a stable release of it.</summary>
/// <remarks>
/// <para>What <c>uname -r</c> says is the distribution's own affair. Debian 12 says 6.1.0-49 of 6.1.192, Ubuntu 6.8.0-64 of 6.8.12, Red Hat 6.12.0-55 of a 6.12.0 to which it has brought much of later ones. Debian and Ubuntu say
/// elsewhere what it really is, and there it is read; where nobody says, the stable release is not known.</para>
/// <para>What a distribution mended by itself is in no number. So a kernel may be better than it says, and is never worse.</para>
/// </remarks>
/// <param name="Major">Such as 6.</param>
/// <param name="Minor">Such as 12.</param>
/// <param name="Patch">The stable release, 0 for the first; <see cref="Candidate"/> for one that is not released yet; null where it cannot be told.</param>
public readonly record struct KernelRelease(int Major, int Minor, int? Patch)
{
    /// <summary>The variable that says in place of the kernel which one it is: for tests, and for a kernel whose owner knows what was mended in it.</summary>
    public const string Variable = "SAMEPAGE_KERNEL_RELEASE";

    /// <summary>Stands before the first release of a series.</summary>
    public const int Candidate = -1;

    private static readonly Lazy<KernelRelease> s_here = new(Read);

    /// <summary>The kernel that runs.</summary>
    public static KernelRelease Here => s_here.Value;

    /// <summary>Nothing is known of it.</summary>
    public bool IsUnknown => Major == 0;

    /// <summary>The series.</summary>
    public (int Major, int Minor) Series => (Major, Minor);

    /// <summary>Tells a kernel by what it says of itself.</summary>
    /// <param name="release">What <c>uname -r</c> prints.</param>
    /// <param name="version">What <c>/proc/version</c> says: Debian's ends with the version of its package.</param>
    /// <param name="signature">What <c>/proc/version_signature</c> says, which Ubuntu's kernels have: its last word is the upstream release. Empty elsewhere.</param>
    public static KernelRelease Of(string release, string version, string signature)
    {
        ArgumentNullException.ThrowIfNull(release);
        ArgumentNullException.ThrowIfNull(version);
        ArgumentNullException.ThrowIfNull(signature);
        KernelRelease said = Parse(release, trustsZero: false);
        const string Debian = " Debian ";
        int at = version.LastIndexOf(Debian, StringComparison.Ordinal);
        KernelRelease package = at < 0 ? default : Parse(version[(at + Debian.Length)..], trustsZero: true);
        KernelRelease signed = Parse(signature[(signature.TrimEnd().LastIndexOf(' ') + 1)..], trustsZero: true);
        // A container may show files of another machine: what does not fit is not believed.
        return !package.IsUnknown && package.Series == said.Series ? package : !signed.IsUnknown && signed.Series == said.Series ? signed : said;
    }

    /// <summary>Reads a release such as <c>6.18.44-cloud-amd64</c>, <c>6.12</c> or <c>7.0.0-rc3</c>.</summary>
    /// <param name="text">What begins with it.</param>
    /// <param name="trustsZero">A stable release 0 is one also where something follows: elsewhere it is what a distribution that goes its own way begins to count from.</param>
    public static KernelRelease Parse(string text, bool trustsZero)
    {
        ArgumentNullException.ThrowIfNull(text);
        ReadOnlySpan<char> rest = text.AsSpan().Trim();
        if (!TryNumber(ref rest, out int major) || !TryTake(ref rest, '.') || !TryNumber(ref rest, out int minor))
            return default;
        int patch = 0;
        if (rest.Length > 1 && rest[0] == '.' && char.IsAsciiDigit(rest[1]))
        {
            rest = rest[1..];
            _ = TryNumber(ref rest, out patch);
        }

        if (rest.StartsWith("-rc", StringComparison.Ordinal) || rest.StartsWith("~rc", StringComparison.Ordinal))
            return new KernelRelease(major, minor, Candidate);
        return new KernelRelease(major, minor, patch > 0 || trustsZero || rest.IsEmpty ? patch : null);
    }

    /// <summary>As it is written: <c>6.12.117</c>, <c>6.12</c>, <c>6.12 (which stable release cannot be told)</c>.</summary>
    public override string ToString() => IsUnknown ? "a kernel that does not say which" : string.Create(CultureInfo.InvariantCulture, $"{Major}.{Minor}{Patch switch
    {
        null => " (which stable release cannot be told)",
        Candidate => "-rc",
        0 => "",
        int patch => $".{patch}",
    }}");

    private static KernelRelease Read()
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named)
            return Parse(named, trustsZero: true);
        _ = ProcFile.TryRead("/proc/sys/kernel/osrelease", out string release);
        _ = ProcFile.TryRead("/proc/version", out string version);
        _ = ProcFile.TryRead("/proc/version_signature", out string signature);
        return Of(release, version, signature);
    }

    private static bool TryNumber(ref ReadOnlySpan<char> rest, out int number)
    {
        int digits = 0;
        while (digits < rest.Length && char.IsAsciiDigit(rest[digits]))
            digits++;
        bool found = int.TryParse(rest[..digits], NumberStyles.None, CultureInfo.InvariantCulture, out number);
        rest = rest[digits..];
        return found;
    }

    private static bool TryTake(ref ReadOnlySpan<char> rest, char expected)
    {
        if (rest.IsEmpty || rest[0] != expected)
            return false;
        rest = rest[1..];
        return true;
    }
}
