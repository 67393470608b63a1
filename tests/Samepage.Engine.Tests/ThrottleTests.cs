using Samepage.Engine.Control;

namespace Samepage.EngineTests;

/// <summary>A budget of processor time, and waiting for memory pressure.</summary>
public sealed class ThrottleTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(25, 1)]
    [InlineData(100, 2)]
    [InlineData(150, 2)]
    public void WhatIsUsedStaysBelowTheShareAndComesUpToIt(uint percent, int processors)
    {
        ProcessorBudget budget = new() { Percent = percent };
        TimeSpan now = TimeSpan.FromHours(1), begin = now, used = TimeSpan.FromMinutes(1), before = used;
        Assert.Equal(TimeSpan.Zero, budget.Rest(now, used));
        for (int piece = 0; piece < 500; piece++)
        {
            TimeSpan took = TimeSpan.FromMilliseconds(1 + piece * 7 % 40);
            now += took;
            used += took * processors;
            now += budget.Rest(now, used);
            Assert.InRange(budget.Rest(now, used).Ticks, 0, 1000);
        }

        Assert.InRange((used - before) / ((now - begin) * (percent / 100.0) + ProcessorBudget.Burst), 0.9, 1.0001);
    }

    [Fact]
    public void WhatIsSavedIsWorthABurstAndNoMore()
    {
        ProcessorBudget budget = new() { Percent = 10 };
        TimeSpan now = TimeSpan.Zero, used = TimeSpan.Zero, piece = TimeSpan.FromMilliseconds(40);
        _ = budget.Rest(now, used);
        now += TimeSpan.FromHours(1);
        Assert.Equal(TimeSpan.Zero, budget.Rest(now, used));
        Assert.Equal(TimeSpan.Zero, budget.Rest(now += piece, used += piece));
        Assert.Equal(220, budget.Rest(now += piece, used += piece).TotalMilliseconds, 0.01);
        // Asked again while it rests, and then worked all the same.
        Assert.Equal(120, budget.Rest(now += TimeSpan.FromMilliseconds(100), used).TotalMilliseconds, 0.01);
        Assert.Equal(480, budget.Rest(now += piece, used += piece).TotalMilliseconds, 0.01);
    }

    [Fact]
    public void ADearPieceOfWorkIsNotTheLast()
    {
        ProcessorBudget budget = new() { Percent = 1 };
        _ = budget.Rest(TimeSpan.Zero, TimeSpan.Zero);
        Assert.Equal(ProcessorBudget.LongestRest.TotalSeconds, budget.Rest(TimeSpan.FromSeconds(100), TimeSpan.FromSeconds(100)).TotalSeconds, 0.01);
        Assert.Equal(TimeSpan.Zero, budget.Rest(TimeSpan.FromSeconds(161), TimeSpan.FromSeconds(100)));
    }

    [Fact]
    public void WithoutALimitItNeverRestsAndANewLimitBeginsAnew()
    {
        ProcessorBudget budget = new();
        Assert.Equal(TimeSpan.Zero, budget.Rest(TimeSpan.Zero, TimeSpan.Zero));
        Assert.Equal(TimeSpan.Zero, budget.Rest(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(10)));
        budget.Percent = 10;
        Assert.Equal(TimeSpan.Zero, budget.Rest(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(10)));
        Assert.Equal(9, budget.Rest(TimeSpan.FromSeconds(11), TimeSpan.FromSeconds(11)).TotalSeconds, 0.01);
        budget.Percent = 0;
        Assert.Equal(TimeSpan.Zero, budget.Rest(TimeSpan.FromSeconds(12), TimeSpan.FromSeconds(12)));
    }

    [Fact]
    public void TheGateOpensBelowTheOneThresholdAndClosesAboveTheOther()
    {
        PressureGate gate = new() { Available = new PressureLimits(20, 30) };
        Assert.False(gate.IsOpen);
        Assert.Equal([false, true, true, true, false, false, true], ((double[])[20, 19.9, 25, 30, 30.1, 25, 3]).Select(percent => gate.Look(new MemoryPressure(percent, 100))));
    }

    [Fact]
    public void EitherMeasureOpensTheGateAndBothMustBeBackToCloseIt()
    {
        PressureGate gate = new() { Available = new PressureLimits(20, 30), Some = new PressureLimits(10, 5) };
        Assert.False(gate.Look(new MemoryPressure(50, 10)));
        Assert.True(gate.Look(new MemoryPressure(50, 10.1)));
        Assert.True(gate.Look(new MemoryPressure(50, 5.1)));
        Assert.False(gate.Look(new MemoryPressure(50, 5)));
        Assert.True(gate.Look(new MemoryPressure(10, 0)));
        Assert.True(gate.Look(new MemoryPressure(25, 0)));
        // What the kernel does not say closes nothing, and opens nothing.
        Assert.True(gate.Look(new MemoryPressure(50, null)));
        Assert.False(gate.Look(new MemoryPressure(50, 0)));
        Assert.False(gate.Look(new MemoryPressure(50, null)));
    }

    [Fact]
    public void AGateWithoutLimitsIsOpen()
    {
        PressureGate gate = new();
        Assert.True(gate.IsOpen && !gate.HasLimits && gate.Look(new MemoryPressure(100, 0)));
    }
}
