package ottla.interop;

import java.util.List;

/**
 * Writes to and reads from a broker, in lines that can be compared: {@code Main COMMAND BOOTSTRAP ARGUMENT...}.
 */
public final class Main {
    public static void main(String[] args) throws Exception {
        var rest = List.of(args).subList(2, args.length);
        switch (args[0]) {
            case "write" -> Writing.everything(args[1]);
            case "write-plain" -> Writing.withoutTransactions(args[1]);
            case "write-more" -> Writing.more(args[1]);
            case "commit" -> Writing.commitOffsets(args[1], rest);
            case "create" -> Writing.create(args[1], rest);
            case "read" -> Reading.everything(args[1], rest);
            case "scripts" -> Scripts.run();
            // It ends as its script does: by itself, or by a signal.
            case "script" -> Scripts.runOne(rest);
            default -> throw new IllegalArgumentException(args[0]);
        }
        // A transaction may be open on purpose: nothing is closed.
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
