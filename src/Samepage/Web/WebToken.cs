using System.Security.Cryptography;
using System.Text;

namespace Samepage.Web;

/// <summary>The secret that who looks at the page must know: 256 random bits, made at the daemon's start and nowhere written down.</summary>
internal sealed class WebToken
{
    private const string Scheme = "Bearer ";
    private readonly byte[] _expected;

    public WebToken()
    {
        Text = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(32));
        _expected = Encoding.ASCII.GetBytes(Scheme + Text);
    }

    /// <summary>As it stands in an address: 64 hexadecimal digits.</summary>
    public string Text { get; }

    /// <summary>Whether a header <c>Authorization</c> has it. The time that this takes tells nothing of the token.</summary>
    public bool IsIn(string? authorization) =>
        authorization?.Length == _expected.Length && CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(authorization), _expected);

    /// <summary>Hides it: <see cref="Text"/> is asked for where it is wanted.</summary>
    public override string ToString() => nameof(WebToken);
}
