using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Samepage.SystemTests.Harness;

/// <summary>A redis server with data that we can tell from the key, driven over its own protocol.</summary>
internal sealed class RedisUnderTest : IAsyncDisposable
{
    private const int Keys = 6000;
    private readonly string _folder;
    private readonly int[] _generation = new int[Keys];

    private RedisUnderTest(string folder, LiveProgram server) => (_folder, Server) = (folder, server);

    public LiveProgram Server { get; }

    private string SocketPath => Path.Combine(_folder, "redis.sock");

    /// <param name="program">The server.</param>
    /// <param name="launcher">A program, and its arguments, that becomes the server.</param>
    public static async Task<RedisUnderTest> Start(string program, params string[] launcher)
    {
        string folder = Directory.CreateTempSubdirectory("samepage-redis-").FullName;
        string[] command =
            [.. launcher, program, "--port", "0", "--unixsocket", Path.Combine(folder, "redis.sock"), "--dir", folder, "--save", "", "--appendonly", "no", "--daemonize", "no", "--enable-debug-command", "local"];
        var redis = new RedisUnderTest(folder, LiveProgram.Start(command[0], command[1..]));
        await Until.True(() => File.Exists(redis.SocketPath) || redis.Server.HasExited, 20, () => "redis opens its socket");
        return redis;
    }

    /// <summary>Stores every key's first value.</summary>
    public async Task Fill()
    {
        await using Connection connection = await Connect();
        for (int key = 0; key < Keys; key++)
            await connection.Set(key, 0);
    }

    /// <summary>Reads and writes at random, and forks the server into background saves, checking every answer.</summary>
    public async Task Load(int seconds)
    {
        await using Connection connection = await Connect();
        var random = new Random(12345);
        DateTime until = DateTime.UtcNow.AddSeconds(seconds), nextSave = DateTime.UtcNow.AddSeconds(1);
        while (DateTime.UtcNow < until)
        {
            int key = random.Next(Keys);
            if (random.Next(10) == 0)
                await connection.Set(key, ++_generation[key]);
            else
                await connection.Check(key, _generation[key]);
            if (DateTime.UtcNow > nextSave)
            {
                nextSave = DateTime.UtcNow.AddSeconds(2);
                string answer = Encoding.ASCII.GetString(await connection.Call("BGSAVE"));
                Assert.True(answer.Contains("aving", StringComparison.Ordinal) || answer.Contains("in progress", StringComparison.Ordinal), answer);
            }
        }
    }

    public async Task CheckEveryKey()
    {
        await using Connection connection = await Connect();
        for (int key = 0; key < Keys; key++)
            await connection.Check(key, _generation[key]);
    }

    /// <summary>Loads it with other keys by redis's own benchmark, for as many commands of each kind.</summary>
    public Task Benchmark(string program, int commands) =>
        Outside.Must(60, program, "-s", SocketPath, "-n", $"{commands}", "-r", "20000", "-d", "600", "-c", "8", "-q", "-t", "set,get,incr,lpush,lpop,sadd,hset,mset");

    /// <summary>What redis says of all that it holds.</summary>
    public async Task<string> Digest()
    {
        await using Connection connection = await Connect();
        string digest = Encoding.ASCII.GetString(await connection.Call("DEBUG", "DIGEST"));
        Assert.Matches("^[0-9a-f]{40}$", digest);
        return digest;
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private static byte[] Value(int key, int generation)
    {
        var value = new StringBuilder();
        while (value.Length < 6000)
            value.Append(CultureInfo.InvariantCulture, $"{key}:{generation}:{value.Length};");
        return Encoding.ASCII.GetBytes(value.ToString());
    }

    private async Task<Connection> Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath));
        return new Connection(this, new NetworkStream(socket, ownsSocket: true));
    }

    private sealed class Connection(RedisUnderTest redis, NetworkStream stream) : IAsyncDisposable
    {
        private readonly BufferedStream _stream = new(stream);

        public async Task Set(int key, int generation)
        {
            string answer = Encoding.ASCII.GetString(await Call("SET", $"key:{key}", Encoding.ASCII.GetString(Value(key, generation))));
            Assert.True(answer == "OK", $"SET key:{key}: {answer}");
        }

        public async Task Check(int key, int generation)
        {
            byte[] found = await Call("GET", $"key:{key}");
            Assert.True(found.AsSpan().SequenceEqual(Value(key, generation)), $"key:{key} of redis {redis.Server.Pid} is not what was stored");
        }

        public async Task<byte[]> Call(params string[] words)
        {
            var request = new StringBuilder();
            request.Append(CultureInfo.InvariantCulture, $"*{words.Length}\r\n");
            foreach (string word in words)
                request.Append(CultureInfo.InvariantCulture, $"${word.Length}\r\n{word}\r\n");
            using var bound = new CancellationTokenSource(TimeSpan.FromSeconds(20));
            await _stream.WriteAsync(Encoding.ASCII.GetBytes(request.ToString()), bound.Token);
            await _stream.FlushAsync(bound.Token);
            string head = await Line(bound.Token);
            if (head[0] != '$')
                return Encoding.ASCII.GetBytes(head[1..]);
            var body = new byte[Math.Max(0, int.Parse(head[1..], CultureInfo.InvariantCulture)) + 2];
            await _stream.ReadExactlyAsync(body, bound.Token);
            return body[..^2];
        }

        public async ValueTask DisposeAsync() => await _stream.DisposeAsync();

        private async Task<string> Line(CancellationToken cancellation)
        {
            var line = new StringBuilder();
            var one = new byte[1];
            while (line.Length < 2 || line[^2] != '\r' || line[^1] != '\n')
            {
                await _stream.ReadExactlyAsync(one, cancellation);
                line.Append((char)one[0]);
            }

            return line.ToString(0, line.Length - 2);
        }
    }
}
