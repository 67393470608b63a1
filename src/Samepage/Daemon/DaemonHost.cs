using System.Diagnostics;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json.Serialization.Metadata;
using Samepage.Api;
using Samepage.Linux;
using Samepage.Linux.Fuse;
using Samepage.Linux.Processes;
using Samepage.Metrics;
using Samepage.Rules;
using Samepage.Web;

namespace Samepage.Daemon;

/// <summary>Ports of the loopback addresses on which a daemon serves besides its socket.</summary>
/// <param name="Metrics">For metrics; null for none.</param>
/// <param name="Web">For the web page; null for none.</param>
internal readonly record struct DaemonPorts(int? Metrics, int? Web);

/// <summary>The daemon in the foreground: the API on a Unix socket, and the scanner behind it.</summary>
internal static class DaemonHost
{
    private const int MaxPids = 4096;
    private static readonly string Folder = RunDirectory.Current, SocketPath = RunDirectory.SocketPath(Folder);
    private static readonly TimeSpan RecoveryBound = TimeSpan.FromSeconds(5), LockBound = TimeSpan.FromSeconds(60), LockPatience = TimeSpan.FromSeconds(2),
        StillBound = TimeSpan.FromSeconds(10), LookAgain = TimeSpan.FromMilliseconds(100);

    /// <summary>Serves until SIGTERM or SIGINT; then gives everybody back.</summary>
    /// <returns>0 when everybody was given back; 1 when the daemon could not serve; 3 when it is not permitted to.</returns>
    /// <exception cref="RuleFileException">The rules cannot be taken.</exception>
    /// <param name="rulesPath">The file of rules; null to take in nobody but by hand.</param>
    /// <param name="ports">What it serves on besides its socket.</param>
    /// <param name="cancellation">Ends it.</param>
    public static async Task<int> RunAsync(string? rulesPath, DaemonPorts ports, CancellationToken cancellation)
    {
        RunLock? held;
        RuleSet rules = rulesPath is null ? RuleSet.None : RuleFile.Read(rulesPath);
        try
        {
            // Everybody may pass, to the control files; the socket and the agents' records are root's alone.
            Directory.CreateDirectory(Folder, (UnixFileMode)0b111_101_101);
            bool told = false;
            for (long since = Stopwatch.GetTimestamp(); (held = RunLock.TryTake(Folder, RunLockHolder.Daemon, out RunLockHolder? holder)) is null; await Task.Delay(20, cancellation))
            {
                if (await IsServedAsync(cancellation))
                {
                    await Console.Error.WriteLineAsync($"samepage: a daemon serves {SocketPath} already; stop it first, or set SAMEPAGE_RUN_DIR");
                    return 1;
                }

                if (!told && Stopwatch.GetElapsedTime(since) > LockPatience)
                {
                    told = true;
                    await Console.Error.WriteLineAsync($"samepage: waiting for another samepage process, which recovers what a daemon that died had left in {Folder}");
                    // What it has not given back by now may keep it for ever; we go on with that while we serve.
                    if (holder is { Kind: RunLockHolder.Recovery, IsThere: true })
                        _ = ProcessSignal.Terminate(holder.Pid);
                }

                if (Stopwatch.GetElapsedTime(since) > LockBound)
                {
                    await Console.Error.WriteLineAsync($"samepage: {Folder} is in use by another samepage process, which recovers what a daemon that died had left; try again later");
                    return 1;
                }
            }

            File.Delete(SocketPath);
        }
        catch (Exception refused) when (refused is UnauthorizedAccessException or IOException)
        {
            await Console.Error.WriteLineAsync($"samepage: cannot prepare {Folder}: {refused.Message} Run the daemon as root, or set SAMEPAGE_RUN_DIR.");
            return refused is UnauthorizedAccessException ? 3 : 1;
        }

        using RunLock mine = held;
        using ServiceManager? manager = ServiceManager.Find();
        await using WebApplication application = Build(rules, rulesPath, ports);
        ILogger logger = application.Services.GetRequiredService<ILogger<ScannerService>>();
        Recovery recovery = new(Folder, logger);
        foreach ((int pid, string why) in await recovery.WaitAsync(RecoveryBound, finish: false, cancellation))
            logger.LogWarning("process {Pid}, which a daemon that died had left, is not given back yet: it stays merged, and right; this goes on beside: {Why}", pid, why);
        Guardian guardian = application.Services.GetRequiredService<Guardian>();
        ScannerService scanner = application.Services.GetRequiredService<ScannerService>();
        scanner.IsLeft = recovery.IsLeft;
        scanner.History = ports.Web is null ? null : new SavingsHistory();
        await scanner.Start();
        FuseSession controlFiles = application.Services.GetRequiredService<FuseSession>();
        ServeControlFiles(controlFiles, scanner, logger);
        using PosixSignalRegistration hangup = PosixSignalRegistration.Create(PosixSignal.SIGHUP, context =>
        {
            context.Cancel = true;
            _ = Reload(scanner, rulesPath, logger);
        });
        await application.StartAsync(cancellation);
        File.SetUnixFileMode(SocketPath, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        Console.Out.WriteLine("ready");
        await Console.Out.FlushAsync(cancellation);
        manager?.Ready(scanner);
        await application.WaitForShutdownAsync(cancellation);
        manager?.Stopping();
        if (await scanner.StopAsync())
            guardian.AllIsWell();
        controlFiles.Dispose();
        File.Delete(SocketPath);
        return Environment.ExitCode;
    }

    /// <summary>Gives back what a daemon that died has left: <c>samepage recover</c>.</summary>
    /// <returns>0 when nothing is left; 1 when something is, or a daemon serves; 3 when it is not permitted.</returns>
    public static async Task<int> RecoverAsync(TimeSpan bound, CancellationToken cancellation)
    {
        try
        {
            if (!Directory.Exists(Folder))
                return 0;
            RunLock? mine;
            for (long since = Stopwatch.GetTimestamp(); (mine = RunLock.TryTake(Folder, RunLockHolder.Recovery, out _)) is null; await Task.Delay(20, cancellation))
            {
                // Another recovery: what it gives back need not be given back again, and once it has ended so has ours.
                bool served = await IsServedAsync(cancellation);
                if (!served && Stopwatch.GetElapsedTime(since) < bound)
                    continue;
                await Console.Error.WriteLineAsync($"samepage: {(served ? $"a daemon serves in {Folder}" : $"another recovery in {Folder} has not ended in {bound.TotalSeconds} s")}; nothing was done");
                return 1;
            }

            using RunLock held = mine;
            FuseMount.Clear(RunDirectory.ControlPath(Folder));
            using ILoggerFactory loggers = LoggerFactory.Create(Log);
            Recovery recovery = new(Folder, loggers.CreateLogger("samepage.recover"));
            IReadOnlyList<(int Pid, string Why)> left = await recovery.WaitAsync(bound, finish: true, cancellation);
            foreach ((int pid, string why) in left)
                await Console.Error.WriteLineAsync($"samepage: process {pid} is not given back: {why}");
            if (left.Count > 0)
                await Console.Error.WriteLineAsync($"samepage: {left.Count} processes are not given back; they stay merged, and right; try again");
            return left.Count == 0 ? 0 : 1;
        }
        catch (UnauthorizedAccessException refused)
        {
            await Console.Error.WriteLineAsync($"samepage: cannot use {Folder}: {refused.Message} Run it as root.");
            return 3;
        }
    }

    /// <summary>Serves the control files. Without them the daemon does its work all the same.</summary>
    private static void ServeControlFiles(FuseSession session, ScannerService scanner, ILogger logger)
    {
        string path = "";
        try
        {
            path = RunDirectory.ControlPath(Folder);
            FuseMount.Clear(path);
            Directory.CreateDirectory(path);
            session.Serve(path, new ControlTree(scanner));
            scanner.ControlDirectory = path;
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            logger.LogWarning("no control files {Path}: {Why}; they need /dev/fuse (modprobe fuse) and CAP_SYS_ADMIN; all else works", path, refused.Message);
        }
    }

    private static void Log(ILoggingBuilder logging)
    {
        logging.ClearProviders();
        // The journal has the time by itself, and is told how grave it is.
        if (ServiceManager.HasJournal)
            logging.AddSystemdConsole();
        else
            logging.AddSimpleConsole(options =>
            {
                options.SingleLine = true;
                options.TimestampFormat = "HH:mm:ss.fff ";
            });
        logging.AddFilter("Microsoft", LogLevel.Warning);
        // A line for each connection that is one too many would let anybody fill the log.
        logging.AddFilter("Microsoft.AspNetCore.Server.Kestrel.Connections", LogLevel.Error);
        logging.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(options => options.LogToStandardErrorThreshold = LogLevel.Trace);
    }

    private static async Task<bool> IsServedAsync(CancellationToken cancellation)
    {
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), cancellation);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Reads the rules again. Bad ones are refused, and the old ones stay in force.</summary>
    /// <returns>What is wrong; empty when they are in force.</returns>
    private static async Task<string> Reload(ScannerService scanner, string? rulesPath, ILogger logger)
    {
        try
        {
            await scanner.UseAsync(rulesPath is null ? RuleSet.None : RuleFile.Read(rulesPath));
            logger.LogInformation("the rules were read again: {Path}", rulesPath ?? "none are used");
            return "";
        }
        catch (RuleFileException wrong)
        {
            logger.LogError("the old rules stay in force: {Why}", wrong.Message);
            return wrong.Message;
        }
    }

    private static WebApplication Build(RuleSet rules, string? rulesPath, DaemonPorts ports)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        Log(builder.Logging);
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromMinutes(5));
        builder.Services.AddSingleton<Guardian>();
        builder.Services.AddSingleton<FuseSession>();
        builder.Services.AddSingleton<IWaitingThreads>(services => services.GetRequiredService<FuseSession>());
        builder.Services.AddSingleton(rules);
        builder.Services.AddSingleton<ScannerService>();
        builder.Services.ConfigureHttpJsonOptions(options => options.SerializerOptions.TypeInfoResolverChain.Insert(0, ApiJson.Default));
        builder.Services.AddSingleton<HoldHistogram>();
        builder.WebHost.ConfigureKestrel(options =>
        {
            options.AddServerHeader = false;
            LoopbackPort.Limit(options.Limits);
            options.ListenUnixSocket(SocketPath);
            if (ports.Metrics is int metrics)
                MetricsEndpoint.Listen(options, metrics);
            if (ports.Web is int web)
                WebEndpoint.Listen(options, web);
        });
        WebApplication application = builder.Build();
        ScannerService scanner = application.Services.GetRequiredService<ScannerService>();
        Map(application, scanner, rulesPath);
        ObservationApi.Map(application, scanner);
        MetricsEndpoint.Map(application, scanner, application.Services.GetRequiredService<HoldHistogram>(), guarded: ports.Web);
        WebEndpoint.Map(application, scanner, ports.Web);
        return application;
    }

    private static void Map(WebApplication application, ScannerService scanner, string? rulesPath)
    {
        ILogger logger = application.Services.GetRequiredService<ILogger<ScannerService>>();
        application.MapPost("/v1/reload", async () => await Reload(scanner, rulesPath, logger) is { Length: > 0 } wrong
            ? Refused($"the old rules stay in force: {wrong}", 400)
            : Json(new ReloadReply(rulesPath ?? ""), ApiJson.Default.ReloadReply));
        application.MapGet("/v1/status", () => scanner.Status is { } status
            ? Json(status, ApiJson.Default.StatusReport)
            : Refused("the daemon is starting; try again", 503)).WithMetadata(WebEndpoint.Shown);
        application.MapPost("/v1/attach", async (AttachRequest request) => Check(request.Pids) is { } wrong
            ? Refused(wrong, 400)
            : Json(await OutcomesOf(scanner, _ => request.Pids, (c, pid) => c.Attach(pid)), ApiJson.Default.OutcomeReply));
        application.MapPost("/v1/detach", async (DetachRequest request) => !request.All && Check(request.Pids) is { } wrong
            ? Refused(wrong, 400)
            : Json(await OutcomesOf(scanner, c => request.All ? c.Pids() : request.Pids, (c, pid) => c.Release(pid)), ApiJson.Default.OutcomeReply));
    }

    /// <summary>Does something with several processes at once, and says what came of it. Who keeps it is not waited for for ever.</summary>
    private static async Task<OutcomeReply> OutcomesOf(ScannerService scanner, Func<Coordinator, int[]> pids, Func<Coordinator, int, Task<ProcessOutcome>> work) =>
        new(await scanner.AskFor(coordinator => Task.WhenAll(pids(coordinator).Distinct().Select(pid => InTime(coordinator, pid, work(coordinator, pid))))));

    private static async Task<ProcessOutcome> InTime(Coordinator coordinator, int pid, Task<ProcessOutcome> work)
    {
        long since = Stopwatch.GetTimestamp();
        while (!work.IsCompleted && (Stopwatch.GetElapsedTime(since) < StillBound || Stopwatch.GetElapsedTime(coordinator.ProgressOf(pid)) < StillBound))
            _ = await Task.WhenAny(work, Task.Delay(LookAgain));
        return work.IsCompleted ? await work : new ProcessOutcome(pid, false, "waiting",
            $"it has kept us for {StillBound.TotalSeconds} s: it is stopped, frozen, starved, or does so on purpose; this goes on as soon as it lets go, and samepage status says what has become of it");
    }

    private static string? Check(int[]? pids) =>
        pids is not { Length: >= 1 and <= MaxPids } ? $"pids: 1 to {MaxPids} process ids are wanted"
        : Array.Find(pids, pid => pid <= 0) is var bad && bad != 0 ? $"pids: {bad} is no process id" : null;

    internal static IResult Json<T>(T value, JsonTypeInfo<T> type) => Results.Json(value, type);

    internal static IResult Refused(string error, int status) => Results.Json(new ErrorReply(error), ApiJson.Default.ErrorReply, statusCode: status);
}
