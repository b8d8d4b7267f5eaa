//! The macro that turns a record's schema into a struct and its codec.

/// Declares a structure of the metadata log.
///
/// Fields stand in wire order; `since N` names the first version that has the field (an older
/// record leaves the default). Tagged fields follow with their tag and default. Only the newest
/// version is ever written, every older one is read.
macro_rules! schema {
    (
        $(#[$doc:meta])*
        struct $name:ident {
            $($(#[$fdoc:meta])* $field:ident : $type:ty $(, since $since:literal)? ;)*
        }
        tagged {
            $($(#[$tdoc:meta])* $tag:literal => $tfield:ident : $ttype:ty = $tdefault:expr ;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $type,)*
            $($(#[$tdoc])* pub $tfield: $ttype,)*
        }

        impl $name {
            pub(super) fn write_body(&self, out: &mut BytesMut) {
                $(Field::write(&self.$field, out);)*
                #[allow(unused_mut)]
                let mut tags = TagWriter::default();
                $(tags.put($tag, &self.$tfield, &$tdefault);)*
                tags.finish(out);
            }

            #[allow(unused_variables)]
            pub(super) fn read_body(from: &mut Decoder, version: u32) -> Result<Self, DecodeError> {
                $(
                    #[allow(unused_mut, unused_assignments)]
                    let mut present = true;
                    $(present = version >= $since;)?
                    let $field: $type = if present { Field::read(from)? } else { Default::default() };
                )*
                $(let mut $tfield: $ttype = $tdefault;)*
                from.read_tagged_fields_with(|tag, from| match tag {
                    $($tag => {
                        $tfield = Field::read(from)?;
                        Ok(TagOutcome::Decoded)
                    })*
                    _ => Ok(TagOutcome::Retained),
                })?;
                Ok(Self { $($field,)* $($tfield,)* })
            }
        }
    };
}
