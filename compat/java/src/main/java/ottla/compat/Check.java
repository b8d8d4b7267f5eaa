package ottla.compat;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.locks.LockSupport;

/** What a scenario asserts with. */
final class Check {
    /** How long anything may take before the node is taken to be stuck. */
    static final Duration DEADLINE = Duration.ofSeconds(40);

    private Check() {}

    static void that(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    static void equal(Object expected, Object actual, String what) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    /** Asks again until the answer is yes; the question itself may move things along, as a poll does. */
    static void until(String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + DEADLINE.toNanos();
        while (!holds.call()) {
            that(System.nanoTime() < end, "waited " + DEADLINE.toSeconds() + " s for: " + what);
            LockSupport.parkNanos(Duration.ofMillis(10).toNanos());
        }
    }

    /** Runs what must fail with an error of the given class, which a future may have wrapped. */
    static <E extends Throwable> E failsWith(Class<E> wanted, Callable<?> action) throws Exception {
        Object answer;
        try {
            answer = action.call();
        } catch (Exception thrown) {
            Throwable cause = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
            if (wanted.isInstance(cause)) {
                return wanted.cast(cause);
            }
            throw thrown;
        }
        throw new AssertionError("expected " + wanted.getSimpleName() + ", but it answered " + answer);
    }
}
