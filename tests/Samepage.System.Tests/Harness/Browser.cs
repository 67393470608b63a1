using System.Reflection;
using Microsoft.Playwright;

namespace Samepage.SystemTests.Harness;

/// <summary>Debian's Chromium without a screen, driven by Playwright, whose driver is run where NuGet has put it; no browser is downloaded.</summary>
internal sealed class Browser : IAsyncDisposable
{
    private readonly IPlaywright _playwright;
    private readonly IBrowser _chromium;

    private Browser(IPlaywright playwright, IBrowser chromium) => (_playwright, _chromium) = (playwright, chromium);

    public static async Task<Browser> Start()
    {
        string chromium = Needs.Program("chromium", "chromium");
        Environment.SetEnvironmentVariable("PLAYWRIGHT_DRIVER_SEARCH_PATH",
            Assembly.GetExecutingAssembly().GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "PlaywrightDriver").Value);
        IPlaywright playwright = await Playwright.CreateAsync();
        return new Browser(playwright, await playwright.Chromium.LaunchAsync(new() { ExecutablePath = chromium, Headless = true, Args = ["--no-sandbox"] }));
    }

    /// <summary>Opens a page as a new user would, with nothing kept from others.</summary>
    public async Task<OpenPage> Open(string url, ColorScheme scheme = ColorScheme.Light)
    {
        IPage page = await _chromium.NewPageAsync(new() { ColorScheme = scheme, ViewportSize = new() { Width = 1180, Height = 900 } });
        page.SetDefaultTimeout(20_000);
        OpenPage open = new(page);
        await page.GotoAsync(url);
        return open;
    }

    public async ValueTask DisposeAsync()
    {
        await _chromium.DisposeAsync();
        _playwright.Dispose();
    }
}

/// <summary>A browser for all tests of a class, started by the first that wants it.</summary>
public sealed class SharedBrowser : IAsyncDisposable
{
    private Browser? _browser;

    internal async Task<Browser> Get() => _browser ??= await Browser.Start();

    public async ValueTask DisposeAsync()
    {
        if (_browser is not null)
            await _browser.DisposeAsync();
    }
}

/// <summary>A page, and what it has asked for and complained of.</summary>
internal sealed class OpenPage
{
    private readonly List<string> _requests = [], _complaints = [];

    public OpenPage(IPage page)
    {
        Page = page;
        page.Request += (_, request) => Add(_requests, request.Url);
        page.PageError += (_, error) => Add(_complaints, error);
        page.Console += (_, message) => Add(_complaints, message.Type is "error" or "warning" ? message.Text : null);
    }

    public IPage Page { get; }

    /// <summary>The addresses that were asked for.</summary>
    public string[] Requests => Copy(_requests);

    /// <summary>What went wrong in it, breaches of its policy among them.</summary>
    public string[] Complaints => Copy(_complaints);

    private static void Add(List<string> list, string? text)
    {
        lock (list)
        {
            if (text is not null)
                list.Add(text);
        }
    }

    private static string[] Copy(List<string> list)
    {
        lock (list)
            return [.. list];
    }
}
