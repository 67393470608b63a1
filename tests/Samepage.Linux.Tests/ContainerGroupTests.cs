using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Control groups as container runtimes make them.</summary>
public sealed class ContainerGroupTests
{
    private const string Id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Other = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    [Theory]
    [InlineData("0::/\n", "")]
    [InlineData("", "")]
    [InlineData("0::/system.slice/ssh.service\n", "")]
    [InlineData("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.kde.konsole-0123.scope\n", "")]
    [InlineData($"0::/system.slice/docker-{Id}.scope\n", "docker-0123456789ab")]
    [InlineData($"0::/system.slice/docker-{Id}.scope (deleted)\n", "docker-0123456789ab")]
    [InlineData($"0::/docker/{Id}\n", "docker-0123456789ab")]
    [InlineData($"12:memory:/docker/{Id}\n1:name=systemd:/docker/{Id}\n0::/\n", "docker-0123456789ab")]
    [InlineData($"0::/docker/{Id}/kubelet/kubepods/besteffort/pod1/{Other}\n", "docker-0123456789ab")] // kind: the container that the machine has
    [InlineData($"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/cri-containerd-{Id}.scope\n", "cri-containerd-0123456789ab")]
    [InlineData($"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod12.slice/crio-{Id}.scope\n", "crio-0123456789ab")]
    [InlineData($"0::/kubepods/burstable/pod12/{Id}\n", "0123456789ab")]
    [InlineData($"0::/machine.slice/libpod-{Id}.scope/container\n", "libpod-0123456789ab")]
    [InlineData($"0::/machine.slice/libpod-conmon-{Id}.scope\n", "")]
    [InlineData($"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{Id}.scope\n", "libpod-0123456789ab")]
    [InlineData($"0::/libpod_parent/libpod-{Id}\n", "libpod-0123456789ab")]
    [InlineData($"0::/system.slice/nerdctl-{Id}.scope\n", "nerdctl-0123456789ab")]
    [InlineData("0::/lxc.payload.web/system.slice/nginx.service\n", "lxc-web")]
    [InlineData("0::/lxc/web\n", "lxc-web")]
    [InlineData("0::/lxc.monitor.web\n", "")]
    [InlineData("0::/machine.slice/systemd-nspawn@web.service/payload\n", "nspawn-web")]
    [InlineData("0::/machine.slice/machine-web.scope\n", "machine-web")]
    [InlineData("0::/machine.slice/machine-qemu\\x2d1\\x2dguest.scope/libvirt/emulator\n", "")] // a guest's monitor is a program of the machine
    public void AContainerIsToldByItsGroup(string text, string name) => Assert.Equal(name, ContainerGroup.NameOf(text));

    [Fact]
    public void WhatIsHostileInANameIsADigest()
    {
        string name = ContainerGroup.NameOf("0::/lxc.payload.\u001b]0;x\u0007 caps:0\n");
        Assert.Matches("^lxc-~[0-9a-f]{16}$", name);
        Assert.NotEqual(name, ContainerGroup.NameOf("0::/lxc.payload.\u001b]0;y\u0007 caps:0\n"));
    }
}
