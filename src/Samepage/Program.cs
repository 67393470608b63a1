using Samepage.Cli;

return await CommandLine.RunAsync(args,
[
    EstimateCommand.Create(),
    FleetCommand.Create(),
    AttachCommand.Create(),
    DetachCommand.Create(),
    StatusCommand.Create(),
    DoctorCommand.Create(),
    DemoCommand.Create(),
    SimulateCommand.Create(),
    DaemonCommand.Create(),
    RecoverCommand.Create(),
]);
