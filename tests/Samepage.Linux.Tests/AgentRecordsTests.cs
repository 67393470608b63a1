using Samepage.Agent;
using Samepage.Daemon;

namespace Samepage.LinuxTests;

/// <summary>What a daemon writes down of its agents, for whoever comes after it.</summary>
public sealed class AgentRecordsTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("samepage-records-");

    [Fact]
    public void WhatWasWrittenIsRead()
    {
        AgentRecords records = new(_folder.FullName);
        AgentRecord one = new(new AgentPlace(4711, 12345, 0x7f12_3456_7000, 0xFEDC_BA98_7654_3210), 7, 42, "uid:1000"), two = one with { Place = one.Place with { Pid = 99 } };
        records.Write(one);
        records.Write(two);
        Assert.Equal([one, two], records.ReadAll());
        records.Remove(one.Place);
        records.Remove(one.Place);
        Assert.Equal([two], records.ReadAll());
    }

    /// <summary>Whoever was slow to notice that an agent is gone does not take the record of the next one away.</summary>
    [Fact]
    public void TheRecordOfAnotherAgentInTheSameProcessStays()
    {
        AgentRecords records = new(_folder.FullName);
        AgentRecord before = new(new AgentPlace(4711, 12345, 0x7f12_3456_7000, 1), 7, 42, "uid:1000"), now = before with { Place = before.Place with { Cookie = 2 } };
        records.Write(now);
        records.Remove(before.Place);
        Assert.Equal([now], records.ReadAll());
        records.Remove(now.Place);
        Assert.Empty(records.ReadAll());
    }

    /// <summary>What could not be removed is tried again, and is not what somebody else has written there since.</summary>
    [Fact]
    public void WhatCouldNotBeRemovedIsRemovedLaterUnlessItIsAnothers()
    {
        AgentRecords records = new(_folder.FullName), others = new(_folder.FullName);
        AgentRecord before = new(new AgentPlace(4711, 12345, 0x7f12_3456_7000, 1), 7, 42, "uid:1000"), now = before with { Place = before.Place with { Cookie = 2 } };
        string inTheWay = Path.Combine(_folder.FullName, "agents", "4711");
        foreach (AgentRecord left in (AgentRecord[])[before, now])
        {
            Directory.CreateDirectory(inTheWay);
            records.Remove(before.Place);
            Directory.Delete(inTheWay);
            others.Write(left);
            records.RemoveLeft();
            Assert.Equal(left == now ? [now] : [], records.ReadAll());
        }

        records.RemoveLeft();
        Assert.Equal([now], records.ReadAll());
    }

    [Theory]
    [InlineData("12345 7f1234567000 fedc 7:42 uid:1000")] // no end of line: it was being written
    [InlineData("")]
    [InlineData("12345 7f1234567000 fedc 7:42\n")]
    [InlineData("12345 7f1234567000 fedc 42 uid:1000\n")] // without the pool's device
    [InlineData("-1 7f1234567000 fedc 7:42 uid:0\n")]
    [InlineData("1 0x7f1234567000 fedc 7:42 uid:0\n")]
    public void ARecordThatIsNotWholeIsRemoved(string text)
    {
        string path = Path.Combine(_folder.CreateSubdirectory("agents").FullName, "4711");
        File.WriteAllText(path, text);
        Assert.Empty(new AgentRecords(_folder.FullName).ReadAll());
        Assert.False(File.Exists(path));
    }

    [Theory]
    [InlineData("0")]
    [InlineData("self")]
    [InlineData("-1")]
    public void ARecordOfNoProcessIsNone(string name) => Assert.False(AgentRecords.TryParse(name, "1 2 3 4:5 uid:0\n", out _));

    /// <inheritdoc/>
    public void Dispose() => _folder.Delete(recursive: true);
}
