using System.Text.Json;
using System.Text.Json.Serialization;

namespace Samepage.Estimate.Report;

/// <summary>An estimate as JSON: names in snake_case, enumerations by name.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, Converters = [typeof(KindNames)])]
[JsonSerializable(typeof(EstimateReport))]
public sealed partial class EstimateJson : JsonSerializerContext;

/// <summary>Kinds of memory in snake_case, as every other name.</summary>
internal sealed class KindNames() : JsonStringEnumConverter<MemoryKind>(JsonNamingPolicy.SnakeCaseLower);
