using System.Security.Cryptography;
using System.Text;

namespace Samepage.Web;

/// <summary>The page: one document with its style and its script in it, and the policy under which a browser shall show it.</summary>
/// <remarks>
/// The policy names the digests of that style and that script, so that a browser runs nothing else, whatever came into the page; it lets them talk to
/// this server only; and it forbids to make elements of text (trusted types), so that a process's name is text whatever it is.
/// </remarks>
internal static class WebPage
{
    /// <summary>The document.</summary>
    public static readonly byte[] Document;

    /// <summary>Its Content-Security-Policy.</summary>
    public static readonly string Policy;

    static WebPage()
    {
        string style = Read("page.css"), script = Read("page.js");
        Document = Encoding.UTF8.GetBytes(Read("page.html").Replace("/*STYLE*/", style, StringComparison.Ordinal).Replace("/*SCRIPT*/", script, StringComparison.Ordinal));
        Policy = $"default-src 'none'; style-src '{Digest(style)}'; script-src '{Digest(script)}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            + "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
    }

    private static string Read(string name)
    {
        using StreamReader reader = new(typeof(WebPage).Assembly.GetManifestResourceStream(name)!);
        return reader.ReadToEnd();
    }

    private static string Digest(string text) => $"sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(text)))}";
}
