package org.example.player

import java.time.Duration
import kotlin.math.max
import kotlin.random.Random

/** Songs in an order, with history and shuffle. */
enum class Mode { ORDER, SHUFFLE, REPEAT_ONE }

data class Song(val title: String, val artist: String, val length: Duration, val rating: Int = 0) {
    init {
        require(rating in 0..5) { "rating must lie in 0..5, not $rating" }
    }

    val label: String
        get() = "$artist: $title (${length.toMinutes()}:${"%02d".format(length.seconds % 60)})"
}

sealed class Event {
    data class Started(val song: Song) : Event()
    data class Skipped(val song: Song, val after: Duration) : Event()
    object Stopped : Event()
}

interface Listener {
    fun on(event: Event)
}

class Playlist(private val random: Random = Random.Default) : Iterable<Song> {
    private val songs = mutableListOf<Song>()
    private val history = ArrayDeque<Int>()
    private val listeners = mutableListOf<Listener>()
    var mode: Mode = Mode.ORDER
        private set
    private var current: Int? = null

    companion object {
        const val HISTORY = 50

        fun of(vararg songs: Song): Playlist = Playlist().apply { songs.forEach { add(it) } }
    }

    fun add(song: Song, at: Int = songs.size) {
        check(at in 0..songs.size)
        songs.add(at, song)
        current?.let { if (at <= it) current = it + 1 }
    }

    operator fun plusAssign(song: Song) = add(song)

    override fun iterator(): Iterator<Song> = songs.iterator()

    fun listen(listener: Listener) {
        listeners += listener
    }

    fun next(): Song? {
        if (songs.isEmpty()) {
            emit(Event.Stopped)
            return null
        }
        val index = when (mode) {
            Mode.ORDER -> ((current ?: -1) + 1) % songs.size
            Mode.SHUFFLE -> random.nextInt(songs.size)
            Mode.REPEAT_ONE -> current ?: 0
        }
        current?.let(history::addLast)
        while (history.size > HISTORY) {
            history.removeFirst()
        }
        current = index
        return songs[index].also { emit(Event.Started(it)) }
    }

    fun back(): Song? = history.removeLastOrNull()?.let { index ->
        current = index
        songs.getOrNull(index)
    }

    fun best(count: Int, test: (Song) -> Boolean = { true }): List<Song> =
        songs.filter(test).sortedByDescending { it.rating }.take(max(count, 0))

    private fun emit(event: Event) {
        for (listener in listeners) {
            try {
                listener.on(event)
            } catch (error: IllegalStateException) {
                println("listener failed: ${error.message}")
            }
        }
    }
}

fun Duration.pretty(): String = if (isZero) "nothing" else "${toMinutes()} min"

suspend fun fetch(names: List<String>): Map<String, Int?> {
    val found = HashMap<String, Int?>()
    for (i in names.indices) {
        val name = names[i].trim()
        if (name.isEmpty() || name == "-") continue
        found[name] = name.toIntOrNull()
    }
    return found
}

fun main() {
    val list = Playlist.of(Song("Aria", "Bach", Duration.ofSeconds(245), 5))
    list += Song("Gnossienne", "Satie", Duration.ofSeconds(200))
    do {
        val song = list.next() ?: break
        println(song.label)
    } while (song.rating > 0)
}
