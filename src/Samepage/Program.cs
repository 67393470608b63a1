using Samepage.Cli;

return await CommandLine.RunAsync(args,
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
]);
