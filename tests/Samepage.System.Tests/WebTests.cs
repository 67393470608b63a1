using System.Globalization;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Text.Json;
using Microsoft.Playwright;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The web page: who gets to see it, and that it shows what the status says.</summary>
public sealed class WebTests(SharedBrowser shared) : IClassFixture<SharedBrowser>
{
    private const string Hostile = "<img src=x>&\"'";

    [Fact]
    public async Task ItShowsTheFiguresOfTheStatusAndPicturesOfMemory()
    {
        Browser browser = await shared.Get();
        (DaemonUnderTest daemon, int port) = await Serve();
        await using DaemonUnderTest served = daemon;
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "4", "run=64", "zeros=32");
        string hostile = Path.Combine(daemon.RunFolder, Hostile);
        Repository.CopyTarget("common", hostile);
        LiveProgram third = LiveProgram.Start(hostile, "1");
        await using var together = new Together([.. two, third]);
        await third.Ready();
        await daemon.TakeInAndWait([.. two, third]);
        await daemon.Merged(two[0], 768);
        // Nothing changes any more, so that the page and the status tell of one moment.
        await File.WriteAllTextAsync(Path.Combine(daemon.RunFolder, "control", "ksm", "run"), "0");

        OpenPage open = await browser.Open(await Address(daemon));
        IPage page = open.Page;
        await page.Locator("#processes tbody tr").Nth(2).WaitForAsync();
        Assert.Equal($"http://127.0.0.1:{port}/", page.Url); // the token is gone from it
        JsonElement status = await Status(daemon);
        JsonElement[] processes = [.. status.GetProperty("processes").EnumerateArray()];
        string[][] shown = [];
        await Until.True(
            async () =>
            {
                shown = await Rows(page);
                return shown.All(row => processes.Any(process => row.SequenceEqual(Row(process)))) && shown.Length == processes.Length;
            },
            20,
            () => Task.FromResult($"the page's rows {string.Join("; ", shown.Select(row => string.Join('|', row)))} are those of the status: {string.Join("; ", processes.Select(process => string.Join('|', Row(process))))}"));
        Assert.Equal(processes.Select(process => process.GetProperty("profit_bytes").GetInt64()).OrderDescending(),
            shown.Select(row => processes.Single(process => $"{Number(process, "pid")}" == row[0]).GetProperty("profit_bytes").GetInt64()));
        Assert.Equal((Count(Number(status, "pages_shared")), Bytes(Number(status, "pages_sharing") * 4096), Bytes(Number(status, "zero_pages") * 4096)),
            (await page.InnerTextAsync("#total-pages_shared"), await page.InnerTextAsync("#total-pages_sharing"), await page.InnerTextAsync("#total-zero_pages")));

        // By the keyboard alone: sorted by pid, and the other way round; then filtered; then a picture.
        await page.Locator("#processes th button").Nth(0).FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        Assert.Equal(((int[])[two[0].Pid, two[1].Pid, third.Pid]).OrderDescending().Select(pid => $"{pid}"), (await Rows(page)).Select(row => row[0]));
        await page.Keyboard.PressAsync("Enter");
        Assert.Equal(((int[])[two[0].Pid, two[1].Pid, third.Pid]).Order().Select(pid => $"{pid}"), (await Rows(page)).Select(row => row[0]));
        await page.Locator("#filter").FocusAsync();
        await page.Keyboard.TypeAsync($"{two[0].Pid}");
        Assert.Single(await Rows(page));
        await page.Locator("#processes tbody button").FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        await page.Locator("#areas canvas").First.WaitForAsync();
        JsonElement areas = JsonDocument.Parse(await daemon.Get($"/v1/processes/{two[0].Pid}/areas?cells=8192")).RootElement;
        JsonElement[] tracked = [.. areas.GetProperty("areas").EnumerateArray().Where(area => Number(area, "pages_tracked") > 0)];
        Assert.Equal(tracked.Length, await page.Locator("#areas canvas").CountAsync());
        JsonElement most = tracked.MaxBy(area => Number(area, "pages_merged"));
        ILocator canvas = page.Locator($"canvas[aria-label^=\"Picture of {most.GetProperty("start")}-{most.GetProperty("end")}\"]");
        Assert.Contains($"{Count(Number(most, "pages_merged"))} merged", await canvas.GetAttributeAsync("aria-label"), StringComparison.Ordinal);
        // Every point has the color of its letter: counted by what is drawn.
        string cells = most.GetProperty("cells").GetString()!;
        int drawn = await canvas.EvaluateAsync<int>("""
            c => {
              const probe = document.createElement("canvas").getContext("2d"), hex = getComputedStyle(document.documentElement).getPropertyValue("--merged");
              probe.fillStyle = hex; probe.fillRect(0, 0, 1, 1);
              const [r, g, b] = probe.getImageData(0, 0, 1, 1).data, d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
              let n = 0;
              for (let i = 0; i < d.length; i += 4) if (d[i] === r && d[i + 1] === g && d[i + 2] === b && d[i + 3] === 255) n++;
              return n / 49;
            }
            """);
        Assert.Equal(cells.Count(letter => letter == 'M'), drawn);
        await canvas.FocusAsync();
        await page.Keyboard.PressAsync("ArrowRight");
        Assert.Matches("^[0-9a-f]+, 4.0 KiB: ", await page.InnerTextAsync("#map-reading"));
        await page.Keyboard.PressAsync("Escape");
        Assert.False(await page.Locator("#map").IsVisibleAsync());

        // A name is text, wherever it stands.
        await page.Locator("#filter").FillAsync("<img");
        Assert.Equal(Hostile, (await Rows(page)).Single()[1]);
        await page.Locator("#processes tbody button").ClickAsync();
        await page.Locator("#map-title", new() { HasTextString = Hostile }).WaitForAsync();
        await page.Locator("#frames-details summary").ClickAsync();
        await page.Locator("#frames tbody tr", new() { HasTextString = Hostile }).First.WaitForAsync();
        Assert.Equal(0, await page.Locator("img").CountAsync());

        Assert.NotEmpty(await page.Locator("#chart path").AllAsync());
        Assert.Empty(open.Complaints);
        Assert.All(open.Requests.Where(url => !url.StartsWith("data:", StringComparison.Ordinal)), url => Assert.StartsWith($"http://127.0.0.1:{port}/", url, StringComparison.Ordinal));
        Assert.DoesNotContain((await Address(daemon)).Split('#')[1], string.Concat(open.Requests.Skip(1)) + daemon.Log, StringComparison.Ordinal);
        await daemon.GiveBack([.. two, third]);
    }

    [Fact]
    public async Task WithoutTheTokenThereIsNothingToSee()
    {
        Browser browser = await shared.Get();
        (DaemonUnderTest daemon, int port) = await Serve();
        await using DaemonUnderTest served = daemon;
        string token = (await Address(daemon)).Split('#')[1], wrong = (token[0] == '0' ? '1' : '0') + token[1..];
        Assert.Matches("^[0-9a-f]{64}$", token);
        foreach (string hash in (string[])["", $"#{wrong}", $"#{token}0", "#"])
        {
            OpenPage open = await browser.Open($"http://127.0.0.1:{port}/{hash}");
            await open.Page.Locator("#gate").WaitForAsync();
            Assert.False(await open.Page.Locator("#shown").IsVisibleAsync());
            // The right one comes, as when somebody pastes it.
            await open.Page.EvaluateAsync($"location.hash = '{token}'");
            await open.Page.Locator("#shown").WaitForAsync();
            Assert.False(await open.Page.Locator("#gate").IsVisibleAsync());
            await open.Page.CloseAsync();
        }

        using HttpClient http = new() { BaseAddress = new Uri($"http://127.0.0.1:{port}") };
        foreach (string path in (string[])["/v1/status", "/v1/history", "/v1/frames", "/v1/processes/1/areas", "/v1/web", "/metrics", "/nothing"])
        {
            foreach (string? authorization in (string?[])[null, "", "Bearer", "Bearer ", $"Bearer {wrong}", $"Bearer {token}0", $"Bearer {token[..^1]}", token, $"Basic {token}"])
                Assert.Equal((path, authorization, 401), (path, authorization, await Asked(path, authorization)));
            Assert.Equal(401, await Asked($"{path}?token={token}", null));
        }

        string right = $"Bearer {token}";
        Assert.Equal(
            (200, 200, 200, 404, 404, 404, 404), (await Asked("/v1/status", right), await Asked("/v1/history", right), await Asked("/v1/frames", right), await Asked("/v1/processes/1/areas", right),
                await Asked("/v1/web", right), await Asked("/metrics", right), await Asked("/nothing", right)));
        // Nothing can be changed through it.
        foreach (string path in (string[])["/v1/attach", "/v1/detach", "/v1/reload", "/"])
            Assert.Equal(405, await Asked(path, right, HttpMethod.Post));
        Assert.Equal(405, await Asked("/v1/status", null, HttpMethod.Options));
        // A name that leads here is somebody else's page, whatever it knows.
        foreach (string host in (string[])["example.org", $"example.org:{port}", "127.0.0.1", $"127.0.0.1:{port + 1}", $"127.0.0.1.example.org:{port}", $"localhost.example.org:{port}"])
            Assert.Equal((host, 421, 421), (host, await Asked("/v1/status", right, host: host), await Asked("/", null, host: host)));
        Assert.Equal(200, await Asked("/v1/status", right, host: $"localhost:{port}"));

        using HttpResponseMessage document = await http.GetAsync("/");
        string policy = document.Headers.GetValues("Content-Security-Policy").Single();
        Assert.Contains("default-src 'none'", policy, StringComparison.Ordinal);
        Assert.DoesNotContain("unsafe", policy, StringComparison.Ordinal);
        Assert.DoesNotContain(document.Headers, header => header.Key.StartsWith("Access-Control", StringComparison.OrdinalIgnoreCase) || header.Key is "Set-Cookie" or "Server");
        Assert.DoesNotContain("//", (await document.Content.ReadAsStringAsync()).Replace("\"http://www.w3.org/2000/svg\"", "", StringComparison.Ordinal).Replace("// ", "", StringComparison.Ordinal), StringComparison.Ordinal);

        async Task<int> Asked(string path, string? authorization, HttpMethod? method = null, string? host = null)
        {
            using var request = new HttpRequestMessage(method ?? HttpMethod.Get, path);
            if (authorization is not null)
                request.Headers.TryAddWithoutValidation("Authorization", authorization);
            request.Headers.Host = host;
            using HttpResponseMessage answer = await http.SendAsync(request);
            return (int)answer.StatusCode;
        }
    }

    [Fact]
    public async Task ItListensOn127001OnlyAndManyConnectionsHarmNothingElse()
    {
        (DaemonUnderTest daemon, int port) = await Serve();
        await using DaemonUnderTest served = daemon;
        IPEndPoint[] listening = [.. IPGlobalProperties.GetIPGlobalProperties().GetActiveTcpListeners().Where(end => end.Port == port)];
        Assert.Equal([new IPEndPoint(IPAddress.Loopback, port)], listening);

        List<Socket> many = [];
        for (int i = 0; i < 300; i++)
        {
            Socket one = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 20_000 };
            await one.ConnectAsync(IPAddress.Loopback, port);
            many.Add(one);
        }

        // Those above the limit are closed, and nobody else is disturbed.
        await Until.True(() => many.Count(one => one.Poll(0, SelectMode.SelectRead)) >= 300 - 128, 20, () => $"{many.Count(one => one.Poll(0, SelectMode.SelectRead))} of 300 connections closed");
        Assert.Equal(1, (await daemon.Status()).Run);
        Assert.Equal(0, (await daemon.Cli("status")).ExitCode);
        many.ForEach(one => one.Dispose());
        using HttpClient http = new();
        await Until.True(
            async () =>
            {
                try
                {
                    return (await http.GetAsync($"http://127.0.0.1:{port}/")).StatusCode == HttpStatusCode.OK;
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            },
            20, "the page is there again");
    }

    [Fact]
    public async Task ItIsOffUnlessAPortIsNamed()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Assert.DoesNotContain($"{daemon.Pid}", await Listening(), StringComparison.Ordinal);
        Called none = await daemon.Cli("web");
        Assert.True(none.ExitCode == 1 && none.Errors.Contains("--web-port", StringComparison.Ordinal), $"{none}");
        Called nobody = await Cli.Run(Path.Combine(daemon.RunFolder, "nowhere"), "web");
        Assert.True(nobody.ExitCode == 1 && nobody.Errors.Contains("samepage daemon", StringComparison.Ordinal), $"{nobody}");
        Called other = await Cli.RunAs(54323, daemon.RunFolder, ["web"]);
        Assert.True(other.ExitCode == 3 && other.Output.Length == 0, $"{other}");
        foreach (string[] bad in (string[][])[["--web-port", "0"], ["--web-port", "65536"], ["--web-port", "http"], ["--web-port", "4711", "--metrics-port", "http"], ["--web-port", "4711", "--metrics-port", "4711"]])
        {
            Called refused = await daemon.Cli(["daemon", "--no-rules", .. bad]);
            Assert.True(refused.ExitCode == 2 && refused.Errors.Length > 0, $"{refused}");
        }

        using Socket taken = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        taken.Listen();
        string port = $"{((IPEndPoint)taken.LocalEndPoint!).Port}";
        Called second = await daemon.Cli("daemon", "--no-rules", "--web-port", port);
        Assert.True(second.ExitCode == 1 && second.Errors.Contains($"127.0.0.1:{port}", StringComparison.Ordinal), $"{second}");
        // Whoever may pass through the directory may use nothing of the daemon's own in it.
        Assert.Equal((UnixFileMode)0b111_101_101, File.GetUnixFileMode(daemon.RunFolder) | (UnixFileMode)0b101_101);
        foreach (string ours in (string[])["lock", "samepage.sock"])
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(daemon.RunFolder, ours)));

        // The sockets that it listens on, by the inodes of its descriptors.
        async Task<string> Listening()
        {
            HashSet<string> sockets = [.. Directory.GetFiles($"/proc/{daemon.Pid}/fd").Select(path => new FileInfo(path).LinkTarget ?? "").Where(target => target.StartsWith("socket:[", StringComparison.Ordinal)).Select(target => target[8..^1])];
            string[] lines = [.. await File.ReadAllLinesAsync("/proc/net/tcp"), .. await File.ReadAllLinesAsync("/proc/net/tcp6")];
            return string.Join('\n', lines.Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Where(fields => fields.Length > 9 && sockets.Contains(fields[9])).Select(fields => $"{daemon.Pid} listens on {fields[1]}"));
        }
    }

    private static async Task<(DaemonUnderTest Daemon, int Port)> Serve()
    {
        int port = FreePort();
        return (await DaemonUnderTest.Start(arguments: ["--web-port", $"{port}"]), port);
    }

    private static async Task<string> Address(DaemonUnderTest daemon)
    {
        Called called = await daemon.Cli("web");
        Assert.True(called.ExitCode == 0, $"{called}");
        return called.Output.Trim();
    }

    private static async Task<JsonElement> Status(DaemonUnderTest daemon) => JsonDocument.Parse((await daemon.Cli("status", "--json")).Output).RootElement;

    /// <summary>The texts of the cells, but for what is wrong with a process.</summary>
    private static Task<string[][]> Rows(IPage page) =>
        page.EvaluateAsync<string[][]>("[...document.querySelectorAll('#processes tbody tr')].map(row => [...row.cells].slice(0, -1).map(cell => cell.textContent))");

    private static string[] Row(JsonElement process) =>
    [
        $"{Number(process, "pid")}", process.GetProperty("name").GetString()!, process.GetProperty("domain").GetString()!, process.GetProperty("settled").GetBoolean() ? "settled" : process.GetProperty("state").GetString()!,
        Count(Number(process, "pages_tracked")), Count(Number(process, "pages_merged")), Count(Number(process, "zero_pages")), Count(Number(process, "pages_broken")), Bytes(Number(process, "profit_bytes")),
    ];

    private static long Number(JsonElement element, string name) => element.GetProperty(name).GetInt64();

    private static string Count(long count) => count.ToString("N0", CultureInfo.InvariantCulture);

    private static string Bytes(long bytes)
    {
        double amount = bytes;
        int unit = 0;
        for (; Math.Abs(amount) >= 1024; unit++)
            amount /= 1024;
        return string.Create(CultureInfo.InvariantCulture, $"{(unit == 0 ? $"{bytes}" : amount.ToString("F1", CultureInfo.InvariantCulture))} {((string[])["bytes", "KiB", "MiB", "GiB"])[unit]}");
    }

    private static int FreePort()
    {
        using Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
