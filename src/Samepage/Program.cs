return await Samepage.Daemon.DaemonHost.RunAsync(default);
