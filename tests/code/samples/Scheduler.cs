using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Example.Scheduling
{
    /// <summary>What a task may turn out to be.</summary>
    public enum Outcome { Pending, Done, Failed }

    public interface IClock
    {
        DateTime Now { get; }
    }

    public sealed class SystemClock : IClock
    {
        public DateTime Now => DateTime.UtcNow;
    }

    public record Job(string Name, Func<CancellationToken, Task<int>> Work, TimeSpan Every);

    public readonly struct Report
    {
        public Report(string name, Outcome outcome, int value)
        {
            Name = name;
            Outcome = outcome;
            Value = value;
        }

        public string Name { get; }
        public Outcome Outcome { get; }
        public int Value { get; }

        public override string ToString() => $"{Name,-12} {Outcome}: {Value:D4}";
    }

    public class Scheduler : IDisposable
    {
        private const int MaxFailures = 3;
        private readonly IClock _clock;
        private readonly Dictionary<string, (Job Job, DateTime Next)> _jobs = new();
        private readonly Dictionary<string, int> _failures = new();
        private bool _disposed;

        public event EventHandler<Report>? Reported;

        public Scheduler(IClock? clock = null)
        {
            _clock = clock ?? new SystemClock();
        }

        public int Count => _jobs.Count;

        public Scheduler Add(Job job)
        {
            if (string.IsNullOrWhiteSpace(job.Name))
            {
                throw new ArgumentException("a job needs a name", nameof(job));
            }
            _jobs[job.Name] = (job, _clock.Now + job.Every);
            return this;
        }

        public async Task<IReadOnlyList<Report>> RunDueAsync(CancellationToken stop = default)
        {
            var due = from pair in _jobs
                      where pair.Value.Next <= _clock.Now
                      orderby pair.Value.Next
                      select pair.Value.Job;
            var reports = new List<Report>();
            foreach (var job in due.ToList())
            {
                stop.ThrowIfCancellationRequested();
                Report report;
                try
                {
                    int value = await job.Work(stop).ConfigureAwait(false);
                    report = new Report(job.Name, Outcome.Done, value);
                    _failures.Remove(job.Name);
                }
                catch (Exception error) when (error is not OperationCanceledException)
                {
                    _failures.TryGetValue(job.Name, out var count);
                    _failures[job.Name] = ++count;
                    report = new Report(job.Name, Outcome.Failed, count);
                }
                _jobs[job.Name] = (job, _clock.Now + job.Every);
                reports.Add(report);
                Reported?.Invoke(this, report);
            }
            return reports;
        }

        public string Describe(string name) => _failures.GetValueOrDefault(name) switch
        {
            0 => "healthy",
            > 0 and < MaxFailures => "limping",
            _ => "broken",
        };

        public void Dispose()
        {
            if (_disposed) return;
            lock (_jobs)
            {
                _jobs.Clear();
            }
            _disposed = true;
        }
    }
}
