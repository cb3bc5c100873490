// Shortest paths in a weighted graph, with a small matrix template beside it.
#include <algorithm>
#include <iostream>
#include <limits>
#include <memory>
#include <queue>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace graphs {

constexpr double kFar = std::numeric_limits<double>::infinity();

enum class Kind { Directed, Undirected };

struct Edge {
    std::size_t to;
    double weight = 1.0;
    bool operator<(const Edge& other) const { return weight > other.weight; }
};

template <typename T, std::size_t Rows, std::size_t Cols>
class Matrix {
public:
    Matrix() : cells_(Rows * Cols, T{}) {}
    T& operator()(std::size_t r, std::size_t c) { return cells_.at(r * Cols + c); }
    const T& operator()(std::size_t r, std::size_t c) const { return cells_.at(r * Cols + c); }

private:
    std::vector<T> cells_;
};

class Graph {
public:
    explicit Graph(Kind kind = Kind::Directed) : kind_{kind} {}
    virtual ~Graph() = default;
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    std::size_t node(const std::string& name) {
        auto [it, fresh] = index_.try_emplace(name, names_.size());
        if (fresh) {
            names_.push_back(name);
            edges_.emplace_back();
        }
        return it->second;
    }

    void connect(const std::string& a, const std::string& b, double weight = 1.0) {
        if (weight < 0) {
            throw std::invalid_argument("negative weight: " + std::to_string(weight));
        }
        const auto from = node(a), to = node(b);
        edges_[from].push_back({to, weight});
        if (kind_ == Kind::Undirected) edges_[to].push_back(Edge{from, weight});
    }

    [[nodiscard]] std::vector<double> distances(const std::string& start) const {
        std::vector<double> best(names_.size(), kFar);
        std::priority_queue<Edge> open;
        const auto found = index_.find(start);
        if (found == index_.end()) return best;
        best[found->second] = 0;
        open.push({found->second, 0});
        while (!open.empty()) {
            const auto [at, length] = open.top();
            open.pop();
            if (length > best[at]) continue;
            for (const auto& edge : edges_[at]) {
                const double next = length + edge.weight;
                if (next < best[edge.to]) {
                    best[edge.to] = next;
                    open.push({edge.to, next});
                }
            }
        }
        return best;
    }

    virtual void print(std::ostream& out) const {
        std::for_each(names_.begin(), names_.end(), [&out](const auto& name) { out << name << '\n'; });
    }

protected:
    std::vector<std::string> names_;

private:
    Kind kind_;
    std::unordered_map<std::string, std::size_t> index_;
    std::vector<std::vector<Edge>> edges_;
};

using GraphPtr = std::unique_ptr<Graph>;

}  // namespace graphs

int main() {
    auto graph = std::make_unique<graphs::Graph>(graphs::Kind::Undirected);
    try {
        graph->connect("home", "mill", 2.5);
        graph->connect("mill", "sea", 4);
        graph->connect("sea", "home", -1);
    } catch (const std::invalid_argument& error) {
        std::cerr << "refused: " << error.what() << std::endl;
    }
    const char* raw = R"(a "raw" string)";
    for (double d : graph->distances("home")) std::cout << d << (d > 3 ? " far\n" : " near\n");
    std::cout << raw << static_cast<int>(sizeof(graph)) << nullptr;
    return 0;
}
