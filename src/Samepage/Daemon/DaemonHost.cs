using System.Diagnostics;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json.Serialization.Metadata;
using Samepage.Api;
using Samepage.Cli;
using Samepage.Doctor;
using Samepage.Linux;
using Samepage.Linux.Fuse;
using Samepage.Linux.Kernels;
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

    /// <summary>Ours until this process ends.</summary>
    private static RunLock? s_held;

    private static readonly TimeSpan RecoveryBound = TimeSpan.FromSeconds(5), LockBound = TimeSpan.FromSeconds(60), LockPatience = TimeSpan.FromSeconds(2),
        StillBound = TimeSpan.FromSeconds(10), RequestsBound = TimeSpan.FromSeconds(2), LookAgain = TimeSpan.FromMilliseconds(100);

    /// <summary>Serves until SIGTERM or SIGINT, which may come at any moment; then gives everybody back.</summary>
    /// <returns>0 when everybody was given back; 1 when somebody was not, or the daemon could not serve; 3 when it is not permitted to.</returns>
    /// <exception cref="RuleFileException">The rules cannot be taken.</exception>
    /// <exception cref="CommandException">The machine, or our privileges, do not allow it; or the run directory cannot be used.</exception>
    /// <param name="rulesPath">The file of rules; null to take in nobody but by hand.</param>
    /// <param name="ports">What it serves on besides its socket.</param>
    /// <param name="cancellation">Ends it.</param>
    public static async Task<int> RunAsync(string? rulesPath, DaemonPorts ports, CancellationToken cancellation)
    {
        // Before anything else, and for every way in: where nothing can be merged nobody is to believe that it is.
        Checkup.Demand();
        RuleSet rules = rulesPath is null ? RuleSet.None : RuleFile.Read(rulesPath);
        using ILoggerFactory loggers = LoggerFactory.Create(Log);
        ILogger<Guardian> guardianLogger = loggers.CreateLogger<Guardian>();
        DescriptorStore? kept = null;
        Guardian? early = null;
        try
        {
            RunDirectory.Prepare(Folder);
            bool told = false;
            RunLockHolder? holder;
            for (long since = Stopwatch.GetTimestamp(); (s_held = RunLock.TryTake(Folder, RunLockHolder.Daemon, out holder, early?.Kept)) is null; await Task.Delay(20, cancellation))
            {
                // Before he ends, and lets go of what he keeps. And with a guardian that has it, too: we may die as soon as he has.
                kept ??= Open(holder);
                if (holder is { Kind: RunLockHolder.Watch, IsThere: true } && kept is not null)
                {
                    early ??= new Guardian(guardianLogger, kept);
                    _ = ProcessSignal.Terminate(holder.Pid);
                }

                if (await IsServedAsync(cancellation))
                {
                    Output.Complain($"a daemon serves {SocketPath} already; stop it first, or set SAMEPAGE_RUN_DIR");
                    return 1;
                }

                if (!told && Stopwatch.GetElapsedTime(since) > LockPatience)
                {
                    told = true;
                    Output.Complain($"waiting for another samepage process, which recovers what a daemon that died had left in {Folder}");
                    // What it has not given back by now may keep it for ever; we go on with that while we serve.
                    if (holder is { Kind: RunLockHolder.Recovery, IsThere: true })
                    {
                        early ??= kept is null ? null : new Guardian(guardianLogger, kept);
                        _ = ProcessSignal.Terminate(holder.Pid);
                    }
                }

                if (Stopwatch.GetElapsedTime(since) > LockBound)
                {
                    Output.Complain($"{Folder} is in use by another samepage process, which recovers what a daemon that died had left; try again later");
                    return 1;
                }
            }

            kept ??= Open(holder);
            File.Delete(SocketPath);
        }
        catch (Exception refused) when (refused is UnauthorizedAccessException or IOException)
        {
            Output.Complain($"cannot prepare {Folder}: {refused.Message} Run the daemon as root, or set SAMEPAGE_RUN_DIR.");
            return refused is UnauthorizedAccessException ? 3 : 1;
        }

        using ServiceManager? manager = ServiceManager.Find();
        using DescriptorStore store = kept ?? DescriptorStore.Create();
        using Guardian guardian = early ?? new Guardian(guardianLogger, store);
        s_held.Sign(RunLockHolder.Daemon, guardian.Kept);
        guardian.Replaced = static kept => s_held!.Sign(RunLockHolder.Daemon, kept);
        await using WebApplication application = Build(rules, rulesPath, ports, store, guardian);
        ILogger logger = application.Services.GetRequiredService<ILogger<ScannerService>>();
        foreach (string what in KernelRestraints.Here.Words)
            logger.LogWarning("for bugs of this kernel, {Kernel}: {What}; samepage doctor says which bugs", KernelRelease.Here, what);
        ScannerService scanner = application.Services.GetRequiredService<ScannerService>();
        // From here on a hangup must not end the daemon; one that comes before the scanner's thread runs is answered by it then.
        using PosixSignalRegistration hangup = PosixSignalRegistration.Create(PosixSignal.SIGHUP, context =>
        {
            context.Cancel = true;
            _ = Reload(scanner, rulesPath, logger);
        });
        Recovery recovery = new(Folder, logger, store);
        IReadOnlyList<(int Pid, string Why)> left = await recovery.WaitAsync(RecoveryBound, finish: false, cancellation);
        foreach ((int pid, string why) in left)
            logger.LogWarning("process {Pid}, which a daemon that died had left, is not given back yet: it stays merged, and right; this goes on beside: {Why}", pid, why);
        if (cancellation.IsCancellationRequested)
            return End(recovery, guardian, logger);

        (scanner.IsLeft, scanner.IsOfLeft) = (recovery.IsLeft, recovery.IsOfLeft);
        scanner.History = ports.Web is null ? null : new SavingsHistory();
        bool all = false;
        try
        {
            await scanner.Start();
            FuseSession controlFiles = application.Services.GetRequiredService<FuseSession>();
            ServeControlFiles(controlFiles, scanner, logger);
            await ServeAsync(application, manager, scanner, logger, cancellation);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // Told to end before it served: what was taken in until then is given back as ever.
        }
        finally
        {
            manager?.Stopping();
            all = await scanner.StopAsync();
            application.Services.GetRequiredService<FuseSession>().Dispose();
            DeleteSocket(logger);
        }

        return all ? Math.Max(Environment.ExitCode, End(recovery, guardian, logger)) : 1;
    }

    /// <summary>Ends where everybody whom this daemon took in was given back: if nobody is left of whom it has taken over either, all is well.</summary>
    /// <returns>0, or 1 when somebody is left. Threads that recover him go on until this process ends, and the guardian must not begin before: so the lock ends with this process.</returns>
    private static int End(Recovery recovery, Guardian guardian, ILogger logger)
    {
        foreach ((int pid, string why) in recovery.Left)
            logger.LogError("process {Pid}, which a daemon that died had left, is left as it is, and given back later by the guardian: {Reason}", pid, why);
        if (recovery.Watches)
            logger.LogError("{What}", guardian.Kept is null ? Coordinator.Unwatched : Coordinator.WatchedOn);
        if (recovery.Left.Count > 0 || recovery.Watches)
            return 1;
        guardian.AllIsWell();
        return 0;
    }

    /// <summary>Serves until it is told to end.</summary>
    private static async Task ServeAsync(WebApplication application, ServiceManager? manager, ScannerService scanner, ILogger logger, CancellationToken cancellation)
    {
        // The socket is root's from its first moment on.
        using (FileCreation.ForOwnerAlone())
            await application.StartAsync(cancellation);
        File.SetUnixFileMode(SocketPath, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        try
        {
            Output.Line("ready");
        }
        catch (SyscallException nobody)
        {
            logger.LogWarning("the daemon serves, and could not say 'ready': {Why}", nobody.Message);
        }

        manager?.Ready(scanner);
        await application.WaitForShutdownAsync(cancellation);
    }

    private static void DeleteSocket(ILogger logger)
    {
        try
        {
            File.Delete(SocketPath);
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            logger.LogWarning("the socket {Path} cannot be removed: {Why}; nobody serves it, and the next daemon replaces it", SocketPath, refused.Message);
        }
    }

    /// <summary>Gives back what a daemon that died has left: <c>samepage recover</c>.</summary>
    /// <returns>0 when nothing is left; 1 when something is, or a daemon serves; 3 when it is not permitted.</returns>
    public static async Task<int> RecoverAsync(TimeSpan bound, CancellationToken cancellation)
    {
        try
        {
            if (!RunDirectory.Check(Folder, parents: true))
                return 0;
            using DescriptorStore? inherited = Guardian.TryInherit();
            DescriptorStore? watched = null;
            RunLock? mine;
            RunLockHolder? holder;
            long begun = Stopwatch.GetTimestamp();
            for (; (mine = RunLock.TryTake(Folder, RunLockHolder.Recovery, out holder)) is null; await Task.Delay(20, cancellation))
            {
                // The guardian's: a daemon that was to take his place has died, and may have told him to end. So we take it.
                if (holder is { Kind: RunLockHolder.Watch, IsThere: true } && inherited is not null && (watched ??= Open(holder)) is not null && Stopwatch.GetElapsedTime(begun) < bound)
                {
                    _ = ProcessSignal.Terminate(holder.Pid);
                    continue;
                }

                if (holder is { Kind: RunLockHolder.Watch, IsThere: true })
                {
                    Output.Complain($"nothing is left that can be given back; process {holder.Pid}, an earlier recovery, watches what cannot. {Coordinator.Orphaned}");
                    return 1;
                }

                // Another recovery: what it gives back need not be given back again, and once it has ended so has ours.
                bool served = await IsServedAsync(cancellation);
                if (!served && Stopwatch.GetElapsedTime(begun) < bound)
                    continue;
                Output.Complain($"{(served ? $"a daemon serves in {Folder}" : $"another recovery in {Folder} has not ended in {bound.TotalSeconds} s")}; nothing was done");
                return 1;
            }

            FuseMount.ClearEverywhere(RunDirectory.ControlPath(Folder));
            using ILoggerFactory loggers = LoggerFactory.Create(Log);
            using DescriptorStore store = watched ?? inherited ?? Open(holder) ?? DescriptorStore.Create();
            StorePlace here = store.PlaceIn(Environment.ProcessId);
            mine.Sign(RunLockHolder.Recovery, here);
            Recovery recovery = new(Folder, loggers.CreateLogger("samepage.recover"), store);
            IReadOnlyList<(int Pid, string Why)> left = await recovery.WaitAsync(bound, finish: true, cancellation);
            foreach ((int pid, string why) in left)
                Output.Complain($"process {pid} is not given back: {why}");
            if (left.Count > 0)
                Output.Complain($"{left.Count} processes are not given back; they stay merged, and right; try again");
            if (recovery.Watches)
            {
                // The guardian's has all the time that it takes; nobody waits for it. Whoever serves next takes over. And who is left is tried on meanwhile: a program that is never given back must not end what watches another's children.
                mine.Sign(RunLockHolder.Watch, here);
                Output.Complain($"{Coordinator.Orphaned}; this process does, until a daemon starts");
                await recovery.WatchAsync(inherited is not null ? Timeout.InfiniteTimeSpan : bound - Stopwatch.GetElapsedTime(begun), cancellation);
                left = left.Count == 0 ? left : await recovery.WaitAsync(TimeSpan.Zero, finish: true, cancellation);
            }

            if (recovery.Watches)
                Output.Complain(Coordinator.Unwatched);
            // Threads that recover who is left go on until this process ends, and nobody else may begin before: the lock ends with it.
            if (left.Count > 0 || recovery.Watches)
                return 1;
            mine.Dispose();
            return 0;
        }
        catch (UnauthorizedAccessException refused)
        {
            Output.Complain($"cannot use {Folder}: {refused.Message} Run it as root.");
            return 3;
        }
    }

    /// <summary>Opens what is kept by who has the run directory's lock, or had it.</summary>
    private static DescriptorStore? Open(RunLockHolder? holder) => holder?.Store is { } place ? DescriptorStore.TryOpen(place) : null;

    /// <summary>Serves the control files. Without them the daemon does its work all the same.</summary>
    private static void ServeControlFiles(FuseSession session, ScannerService scanner, ILogger logger)
    {
        string path = "";
        try
        {
            path = RunDirectory.ControlPath(Folder);
            FuseMount.ClearEverywhere(path);
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
        logging.AddProvider(new LogLines(ServiceManager.HasJournal, Console.Error));
        logging.AddFilter("Microsoft", LogLevel.Warning);
        // A line for each connection that is one too many would let anybody fill the log.
        logging.AddFilter("Microsoft.AspNetCore.Server.Kestrel.Connections", LogLevel.Error);
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

    private static WebApplication Build(RuleSet rules, string? rulesPath, DaemonPorts ports, DescriptorStore store, Guardian guardian)
    {
        // Without any source of configuration: what stands in the directory that we were started in, and in variables for other programs, opens no sockets.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ApplicationName = "samepage", ContentRootPath = "/" });
        builder.WebHost.UseKestrelCore();
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton<IHostLifetime, SignalsAreOurs>();
        Log(builder.Logging);
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = RequestsBound);
        builder.Services.AddSingleton(store);
        builder.Services.AddSingleton(guardian);
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
        if (work.IsCompleted)
            return await work;
        string obstacle = coordinator.ObstacleOf(pid);
        return new ProcessOutcome(pid, false, "waiting",
            $"it has kept us for {StillBound.TotalSeconds} s: {(obstacle.Length > 0 ? obstacle : "it is stopped, frozen, starved, or does so on purpose")}; this goes on as soon as it lets go, and samepage status says what has become of it");
    }

    private static string? Check(int[]? pids) =>
        pids is not { Length: >= 1 and <= MaxPids } ? $"pids: 1 to {MaxPids} process ids are wanted"
        : Array.Find(pids, pid => pid <= 0) is var bad && bad != 0 ? $"pids: {bad} is no process id" : null;

    /// <summary>The host leaves signals alone: <see cref="TerminationSignals"/> has them, from the first moment on.</summary>
    private sealed class SignalsAreOurs : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    internal static IResult Json<T>(T value, JsonTypeInfo<T> type) => Results.Json(value, type);

    internal static IResult Refused(string error, int status) => Results.Json(new ErrorReply(error), ApiJson.Default.ErrorReply, statusCode: status);
}
