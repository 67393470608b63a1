using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Samepage.Fleet;

/// <summary>Turns digests of contents into ones that only who has the fleet's key can make: equal contents have equal fingerprints on all hosts of a
/// fleet, and nobody without the key can tell from a fingerprint whether a host held a page that he knows.</summary>
/// <remarks>The digest, as one block with zeros, is enciphered with AES-256 under a key derived from the fleet's; the first eight bytes are the fingerprint. A block cipher under a
/// secret key is a pseudo-random function of so few bytes. What remains to be seen is which fingerprints are equal, and how often each comes.
/// Not thread-safe.</remarks>
public sealed class FleetKey : IDisposable
{
    /// <summary>Bytes that a key has at least.</summary>
    public const int BytesMin = 16;

    /// <summary>Bytes that a key has at most.</summary>
    public const int BytesMax = 1 << 20;

    private const int BlockBytes = 16;
    private readonly Aes _aes = Aes.Create();
    private readonly byte[] _blocks = new byte[4096 * BlockBytes];
    private readonly byte[] _enciphered = new byte[4096 * BlockBytes];

    /// <param name="secret">The fleet's key: at least <see cref="BytesMin"/> bytes that are hard to guess.</param>
    /// <exception cref="ArgumentException">The key is shorter.</exception>
    public FleetKey(ReadOnlySpan<byte> secret)
    {
        if (secret.Length < BytesMin)
            throw new ArgumentException($"a fleet's key has at least {BytesMin} bytes, and this one has {secret.Length}", nameof(secret));
        _aes.Key = HKDF.DeriveKey(HashAlgorithmName.SHA256, secret.ToArray(), 32, info: "samepage fleet fingerprints 1"u8.ToArray());
    }

    /// <summary>Makes fingerprints of digests.</summary>
    /// <param name="digests">The digests.</param>
    /// <param name="fingerprints">Receives one for each.</param>
    public void Turn(ReadOnlySpan<ulong> digests, Span<long> fingerprints)
    {
        for (int done = 0; done < digests.Length; done += _blocks.Length / BlockBytes)
        {
            ReadOnlySpan<ulong> part = digests[done..Math.Min(digests.Length, done + _blocks.Length / BlockBytes)];
            Span<byte> blocks = _blocks.AsSpan(0, part.Length * BlockBytes);
            blocks.Clear();
            for (int i = 0; i < part.Length; i++)
                BinaryPrimitives.WriteUInt64LittleEndian(blocks[(i * BlockBytes)..], part[i]);
            // Each block stands for itself on purpose: equal digests must come out equal.
            _ = _aes.EncryptEcb(blocks, _enciphered, PaddingMode.None);
            for (int i = 0; i < part.Length; i++)
                fingerprints[done + i] = BinaryPrimitives.ReadInt64LittleEndian(_enciphered.AsSpan(i * BlockBytes));
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _aes.Dispose();
}
