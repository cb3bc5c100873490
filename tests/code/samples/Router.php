<?php

declare(strict_types=1);

namespace App\Http;

use Closure;
use InvalidArgumentException;
use RuntimeException;

/** What a handler gets and gives. */
interface Handler
{
    public function handle(Request $request): Response;
}

final class Request
{
    public function __construct(
        public readonly string $method,
        public readonly string $path,
        public readonly array $query = [],
        private array $attributes = [],
    ) {
    }

    public function with(string $name, mixed $value): static
    {
        $copy = clone $this;
        $copy->attributes[$name] = $value;
        return $copy;
    }

    public function get(string $name, ?string $default = null): ?string
    {
        return $this->attributes[$name] ?? $this->query[$name] ?? $default;
    }
}

class Response
{
    public function __construct(public int $status = 200, public string $body = '')
    {
    }
}

enum Method: string
{
    case Get = 'GET';
    case Post = 'POST';

    public static function of(string $name): self
    {
        return self::tryFrom(strtoupper($name)) ?? throw new InvalidArgumentException("bad method {$name}");
    }
}

trait Logs
{
    protected array $log = [];

    protected function note(string $format, string|int ...$values): void
    {
        $this->log[] = sprintf($format, ...$values);
    }
}

class Router implements Handler
{
    use Logs;

    /** @var array<string, array<string, Closure>> */
    private array $routes = [];

    public function add(Method $method, string $pattern, callable $handler): self
    {
        $regex = '#^' . preg_replace('/\{(\w+)\}/', '(?P<$1>[^/]+)', $pattern) . '$#';
        $this->routes[$method->value][$regex] = $handler(...);
        return $this;
    }

    public function handle(Request $request): Response
    {
        $method = Method::of($request->method);
        foreach ($this->routes[$method->value] ?? [] as $regex => $handler) {
            if (!preg_match($regex, $request->path, $found)) {
                continue;
            }
            foreach (array_filter($found, 'is_string', ARRAY_FILTER_USE_KEY) as $name => $value) {
                $request = $request->with($name, urldecode($value));
            }
            $this->note('%s %s -> %d', $method->name, $request->path, 200);
            return $handler($request);
        }
        return new Response(404, <<<HTML
            <p>Nothing at {$request->path}.</p>
            HTML);
    }

    public function last(int $n = 1): array
    {
        return match (true) {
            $n < 1 => [],
            default => array_slice($this->log, -$n),
        };
    }
}

$router = (new Router())
    ->add(Method::Get, '/hello/{name}', fn (Request $r) => new Response(200, "Hello, {$r->get('name')}!"))
    ->add(Method::Post, '/sum', function (Request $r): Response {
        $total = 0;
        for ($i = 0; $i < 3; $i++) {
            $total += (int) $r->get("n$i", '0');
        }
        return new Response(body: (string) $total);
    });

try {
    echo $router->handle(new Request('GET', '/hello/world'))->body, PHP_EOL;
} catch (RuntimeException | InvalidArgumentException $error) {
    fwrite(STDERR, $error->getMessage());
    exit(1);
}
