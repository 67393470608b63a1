using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>No page crosses a trust domain: by default one user id.</summary>
public sealed class DomainsTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private static readonly int[] Users = [54321, 54322];

    [Fact]
    public async Task EqualPagesOfTwoUsersShareNoFrame()
    {
        string setpriv = Needs.Program("setpriv", "util-linux");
        DirectoryInfo folder = Directory.CreateTempSubdirectory("samepage-domains-");
        try
        {
            // The checkout may be closed to other users; this folder is not.
            File.SetUnixFileMode(folder.FullName, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
            string common = Path.Combine(folder.FullName, "common");
            Repository.CopyTarget("common", common);
            LiveProgram[] four = [.. Users.SelectMany(user => Enumerable.Range(0, 2).Select(_ =>
                LiveProgram.Start(setpriv, $"--reuid={user}", $"--regid={user}", "--clear-groups", common, "16")))];
            await using var together = new Together(four);
            foreach (LiveProgram program in four)
                await program.Ready();

            await Daemon.TakeInAndWait(four);
            foreach (LiveProgram program in four)
                await Daemon.Merged(program, 16 * 256 / 2);

            HashSet<ulong> first = [.. await Frames(four[0]), .. await Frames(four[1])], second = [.. await Frames(four[2]), .. await Frames(four[3])];
            first.Remove(0);
            second.Remove(0);
            Assert.NotEmpty(first);
            Assert.True(!first.Overlaps(second), $"{first.Intersect(second).Count()} frames are shared across users");
            Assert.True((await Frames(four[0])).Intersect(await Frames(four[1])).Count(frame => frame != 0) >= 16 * 256 / 2, "two processes of one user share");

            string[] names = [.. (await Daemon.Status()).Domains.Where(domain => domain.Frames > 0).Select(domain => domain.Name)];
            foreach (int user in Users)
                Assert.Contains($"uid:{user}", names);
            foreach (LiveProgram program in four)
            {
                await program.Does("verify");
                await program.Does("write");
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static async Task<ulong[]> Frames(LiveProgram program)
    {
        string[] range = (await program.Ask("address")).Split(' ');
        return ProcessView.Of(program.Pid).Frames(
            ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
    }
}
