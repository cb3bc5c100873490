import Foundation

/// Readings of weather stations, smoothed and summarised.
enum Scale: String, CaseIterable {
    case celsius = "C"
    case fahrenheit = "F"

    func convert(_ value: Double, to other: Scale) -> Double {
        switch (self, other) {
        case (.celsius, .fahrenheit):
            return value * 9 / 5 + 32
        case (.fahrenheit, .celsius):
            return (value - 32) * 5 / 9
        default:
            return value
        }
    }
}

struct Reading: Codable, Equatable {
    let station: String
    let value: Double
    var takenAt: Date
    var note: String?

    var isPlausible: Bool {
        return value > -90 && value < 60
    }
}

enum WeatherError: Error {
    case noReadings(station: String)
    case implausible(Reading)
}

protocol Source {
    var name: String { get }
    func readings(since date: Date) throws -> [Reading]
}

final class MemorySource: Source {
    let name: String
    private var all: [Reading] = []
    private static var made = 0

    init(name: String) {
        self.name = name
        MemorySource.made += 1
    }

    deinit {
        MemorySource.made -= 1
    }

    func add(_ reading: Reading) throws {
        guard reading.isPlausible else {
            throw WeatherError.implausible(reading)
        }
        all.append(reading)
    }

    func readings(since date: Date) throws -> [Reading] {
        let found = all.filter { $0.takenAt >= date }
        if found.isEmpty {
            throw WeatherError.noReadings(station: name)
        }
        return found.sorted { $0.takenAt < $1.takenAt }
    }
}

class Smoother<Number: BinaryFloatingPoint> {
    private let weight: Number
    private var state: Number?

    init(weight: Number) {
        precondition(weight > 0 && weight <= 1, "weight must lie in 0...1")
        self.weight = weight
    }

    func push(_ value: Number) -> Number {
        if let before = state {
            state = before + weight * (value - before)
        } else {
            state = value
        }
        return state!
    }
}

extension Array where Element == Reading {
    func average() -> Double? {
        guard !isEmpty else { return nil }
        return reduce(0) { $0 + $1.value } / Double(count)
    }
}

func report(_ sources: [Source], since date: Date, in scale: Scale = .celsius) -> String {
    var lines = [String]()
    for source in sources {
        do {
            let readings = try source.readings(since: date)
            let smoother = Smoother<Double>(weight: 0.3)
            var last = 0.0
            for reading in readings where reading.isPlausible {
                last = smoother.push(reading.value)
            }
            let shown = Scale.celsius.convert(last, to: scale)
            lines.append("\(source.name): \(String(format: "%.1f", shown))°\(scale.rawValue)")
        } catch WeatherError.noReadings(let station) {
            lines.append("\(station): nothing yet")
        } catch {
            lines.append("failed: \(error)")
        }
    }
    return lines.joined(separator: "\n")
}

let source = MemorySource(name: "Harbour")
try? source.add(Reading(station: "Harbour", value: 18.5, takenAt: Date(), note: nil))
var attempts = 0
while attempts < 3 {
    attempts += 1
    print(report([source], since: Date(timeIntervalSinceNow: -3600)))
}
