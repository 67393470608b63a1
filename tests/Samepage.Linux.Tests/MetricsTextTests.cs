using Samepage.Metrics;

namespace Samepage.LinuxTests;

/// <summary>The text that scrapers read.</summary>
public sealed class MetricsTextTests
{
    [Fact]
    public void NamesTypesLabelsAndNumbersAreWrittenAsTheFormatHasThem() => Assert.Equal(
        """
        # HELP a_total Goes up.
        # TYPE a_total counter
        a_total 12345678901
        # HELP b Two\nlines, a \\ and "quotes".
        # TYPE b gauge
        b -0.25
        # HELP c By label.
        # TYPE c gauge
        c{of="x \"y\" \\ \n"} 1E+21
        c{of=""} 0
        # HELP d How long.
        # TYPE d histogram
        d_bucket{le="0.5"} 2
        d_bucket{le="1"} 2
        d_bucket{le="+Inf"} 5
        d_sum 7.5
        d_count 5

        """,
        new MetricsText().Counter("a_total", "Goes up.", 12_345_678_901).Gauge("b", "Two\nlines, a \\ and \"quotes\".", -0.25)
            .Family("c", "gauge", "By label.", "of", [("x \"y\" \\ \n", 1e21), ("", 0)])
            .Histogram("d", "How long.", [0.5, 1], [2, 0, 3], 7.5).ToString());

    [Fact]
    public void HoldsAreCountedBetweenTheBoundsThatTheyLieIn()
    {
        using HoldHistogram holds = new();
        foreach (double seconds in (double[])[0, 0.000_25, 0.000_26, 0.004, 5])
            holds.Add(seconds);
        long[] counts = holds.Counts();
        Assert.Equal((2, 1, 1, 1), (counts[0], counts[1], counts[4], counts[^1]));
        Assert.Equal(5, counts.Sum());
        Assert.Equal(5.00451, holds.Sum, 6);
    }

    [Fact]
    public void WhatTheInstrumentRecordsIsCounted()
    {
        using HoldHistogram holds = new();
        HoldMeter.Seconds.Record(0.003);
        Assert.Equal((1, 0.003), (holds.Counts().Sum(), Math.Round(holds.Sum, 6)));
    }
}
