using Samepage.Cli;

// Not by a return: the runtime would wait for threads that are just being started, and one that begins in that very moment may never be. A recovery hung so for as long as it lived.
Environment.Exit(await CommandLine.RunAsync(args,
[
    EstimateCommand.Create(),
    FleetCommand.Create(),
    AttachCommand.Create(),
    DetachCommand.Create(),
    StatusCommand.Create(),
    PagesCommand.Create(),
    FramesCommand.Create(),
    TopCommand.Create(),
    WebCommand.Create(),
    ControlCommand.Create(),
    DoctorCommand.Create(),
    DemoCommand.Create(),
    SimulateCommand.Create(),
    DaemonCommand.Create(),
    ReloadCommand.Create(),
    RecoverCommand.Create(),
    CompletionCommand.Create(),
    ManualCommand.Create(CommandLine.More),
]));
